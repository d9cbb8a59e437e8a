//! Resolves how HTTP is read: limits that a reload may change.

use core::ops::RangeInclusive;

use toml::Spanned;

use super::Http;
use super::raw::{RawHttp, Scalar};
use super::value::Findings;
use crate::time::Duration;

/// Largest limit in bytes.
const MOST: u32 = 1 << 20;

/// `window`: the most bytes that a socket receives before somebody reads them. A longer head would never be whole.
pub(super) fn resolve(raw: &RawHttp, window: u32, findings: &mut Findings<'_>) -> Http {
    let usual = Http::default();
    let largest = MOST.min(window);
    let head_limit = bytes(&raw.head_limit, "http.head_limit", 1_024..=largest, usual.head_limit, findings);
    Http {
        head_limit,
        line_limit: bytes(&raw.line_limit, "http.line_limit", 256..=head_limit, usual.line_limit, findings),
        fields_limit: findings.integer_or(
            raw.fields_limit.as_ref(),
            "http.fields_limit",
            1..=usual.fields_limit,
            usual.fields_limit,
        ),
        trailer_limit: bytes(
            &raw.trailer_limit,
            "http.trailer_limit",
            256..=MOST,
            usual.trailer_limit,
            findings,
        ),
        head_timeout: findings.duration_or(
            raw.head_timeout.as_ref(),
            "http.head_timeout",
            Duration::from_secs(1)..=Duration::from_secs(3600),
            usual.head_timeout,
        ),
        response_timeout: findings.duration_or(
            raw.response_timeout.as_ref(),
            "http.response_timeout",
            Duration::from_secs(1)..=Duration::from_secs(3600),
            usual.response_timeout,
        ),
        connect: raw.connect.unwrap_or(usual.connect),
        http2: raw.http2.unwrap_or(usual.http2),
    }
}

/// A count of bytes; where the key is absent, the usual one as far as it is allowed.
fn bytes(
    value: &Option<Spanned<Scalar>>,
    key: &str,
    allowed: RangeInclusive<u32>,
    usual: u32,
    findings: &mut Findings<'_>,
) -> u32 {
    let (least, most) = allowed.into_inner();
    let bytes = value.as_ref().and_then(|value| findings.bytes(value, key, least.into()..=most.into()));
    bytes.and_then(|bytes| u32::try_from(bytes).ok()).unwrap_or_else(|| usual.min(most))
}
