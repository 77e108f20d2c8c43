//! Ports for processes of the tests.

/// A port of the loopback that nothing listens on, below those that the system gives to outgoing connections: a process that
/// is killed and started again must find its port free.
pub fn free_port() -> u16 {
    let of = |id: uuid::Uuid| 10_000 + u16::try_from(id.as_u128() % 20_000).expect("a small number");
    let mut ports = std::iter::repeat_with(|| of(uuid::Uuid::new_v4()));
    ports.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}
