//! A receiver that is dead, and stays so.

use std::net::Ipv4Addr;

use tokio::net::TcpSocket;

/// A port of the loopback that refuses every connection as long as this lives: it is taken, so that nobody else can listen
/// there meanwhile, but nothing listens.
#[derive(Debug)]
pub struct Refusing(TcpSocket);

impl Refusing {
    /// Takes a port.
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
        Self(socket)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.0.local_addr().expect("its address").port()
    }
}
