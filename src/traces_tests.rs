use super::*;

const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn a_traceparent_is_read_as_the_standard_has_it() {
    let caller = Caller::read(GOOD).unwrap();
    assert!(caller.sampled && hex(&caller.place.trace) == "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&caller.place.span), "b7ad6b7169203331");
    assert!(!Caller::read(&GOOD.replace("-01", "-00")).unwrap().sampled);
    // Of a later version, what is known of it counts.
    assert_eq!(Caller::read(&format!("cc{}-more", &GOOD[2..])), Some(caller));
    for bad in [
        "",
        "00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
        "00-0af7651916cd43dd8448eb211c80319\u{e9}-b7ad6b7169203331-01",
    ] {
        assert_eq!(Caller::read(bad), None, "{bad}");
    }
}

#[test]
fn a_sampler_takes_its_part() {
    let of = |ratio| Sampler { ratio, parent_based: true };
    let traces: Vec<[u8; 16]> =
        (0..1000_u32).map(|n| Sha256::digest(n.to_be_bytes())[..16].try_into().unwrap()).collect();
    let taken = |ratio| traces.iter().filter(|trace| of(ratio).takes(**trace)).count();
    assert_eq!((taken(0.0), taken(1.0)), (0, 1000));
    assert!((200..300).contains(&taken(0.25)), "{}", taken(0.25));
    assert!(of(1.0).takes([u8::MAX; 16]) && !of(0.0).takes([0; 16]));
    let caller = Caller::read(&GOOD.replace("-01", "-00")).unwrap();
    assert!(!of(1.0).takes_caller(&caller) && Sampler { ratio: 1.0, parent_based: false }.takes_caller(&caller));
}
