//! Signatures of outgoing notifications, as Standard Webhooks 1.0 has them: HMAC-SHA256 over `id.timestamp.body`.
//!
//! Guarantee: a secret leaves this module only as a signature. It has no `Display`, and its `Debug` shows nothing of it.

use std::fmt;

use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::engine::{DecodePaddingMode, Engine as _};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Base64 with or without padding: secrets are copied by hand, and the last `=` is what gets lost.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A signing key: 24 to 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Reads `whsec_` followed by base64.
    ///
    /// # Errors
    /// Says what is wrong and shows nothing of the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let encoded = text
            .trim()
            .strip_prefix("whsec_")
            .ok_or("a secret is `whsec_` followed by base64; this one begins otherwise")?;
        let key = LENIENT.decode(encoded).map_err(|_| "what follows `whsec_` is not base64")?;
        if !(24..=64).contains(&key.len()) {
            return Err(format!("the secret has {} bytes once decoded; 24 to 64 are allowed", key.len()));
        }
        Ok(Self(key))
    }

    /// The signature of one attempt: `v1,` and the base64 of the HMAC. `timestamp` is in Unix seconds.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        // HMAC takes a key of any length; the type says `Result` for the sake of other MACs.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Value of `webhook-signature`: one signature for each secret, in their order, separated by one space; `None` without any.
#[must_use]
pub fn signatures(secrets: &[Secret], id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
    let all: Vec<String> = secrets.iter().map(|secret| secret.sign(id, timestamp, body)).collect();
    (!all.is_empty()).then(|| all.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PUBLISHED: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const OWN: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    #[test]
    fn the_vectors_hold() {
        let published = Secret::parse(PUBLISHED).unwrap();
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        assert_eq!(
            published.sign("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body),
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="
        );
        let own = Secret::parse(OWN).unwrap();
        let body = br#"{"type":"acr.image.replicated","timestamp":"2026-11-22T10:00:05Z","data":{"repository":"shop/cart","tag":"1.4.2"}}"#;
        assert_eq!(own.sign("msg_2c5d9b1e", 1_795_341_605, body), "v1,qB2plkS0BB+du71GljCPkXDii8QCxTE7MpdZ41Mog6U=");
        let both = signatures(&[own.clone(), published.clone()], "i", 1, b"{}").unwrap();
        assert_eq!(both, format!("{} {}", own.sign("i", 1, b"{}"), published.sign("i", 1, b"{}")));
        assert_eq!(signatures(&[], "i", 1, b"{}"), None);
    }

    #[test]
    fn bad_secrets_are_told_apart_and_never_shown() {
        let key = |n: usize| format!("whsec_{}", STANDARD.encode(vec![7; n]));
        for good in [key(24), key(64), format!(" {} ", key(32)), OWN.trim_end_matches('=').to_owned()] {
            assert!(Secret::parse(&good).is_ok(), "{good}");
        }
        for bad in [key(23), key(65), "whsec_".into(), "whsec_s3cret!".into(), "s3cret".into(), String::new()] {
            let problem = Secret::parse(&bad).unwrap_err();
            assert!(!problem.contains("s3cret"), "{problem}");
        }
        assert_eq!(format!("{:?}", Secret::parse(OWN).unwrap()), "Secret(…)");
    }

    proptest! {
        #[test]
        fn an_independent_signer_agrees(key in proptest::collection::vec(any::<u8>(), 24..=64), id in "[a-z0-9_]{1,40}", ts in 0i64..4_000_000_000, body in ".*") {
            let text = format!("whsec_{}", STANDARD.encode(&key));
            let theirs = standardwebhooks::Webhook::new(&text).unwrap().sign(&id, ts, body.as_bytes()).unwrap();
            prop_assert_eq!(Secret::parse(&text).unwrap().sign(&id, ts, body.as_bytes()), theirs);
        }
    }
}
