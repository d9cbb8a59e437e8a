//! What codings a recipient accepts (RFC 9110 section 12.5.3).

use super::Coding;
use crate::fields::Fields;

/// Thousandths of a quality value (RFC 9110 section 12.4.2).
const FULL: u16 = 1000;

/// The coding that the sender of `request` likes best of `offered`; of those that it likes alike, the first. `None`: it likes
/// content as it is no less, or accepts none of them.
///
/// Who says nothing of codings gets none: it may be too old to know any.
pub fn preferred(request: &Fields, offered: &[Coding]) -> Option<Coding> {
    let mut best = None;
    let mut least = 1;
    for &coding in offered {
        if let Some(quality) = accepted(request, coding)
            && quality >= least
        {
            best = Some(coding);
            least = quality + 1;
        }
    }
    // Who gives content as it is the same value leaves it to us.
    let plain = quality(request, b"identity").unwrap_or(0);
    best.filter(|_| least > plain)
}

/// Whether the sender of `request` can be sent content of this coding.
pub fn accepts(request: &Fields, coding: Coding) -> bool {
    accepted(request, coding).is_some_and(|quality| quality > 0)
}

/// How well it likes a coding; `None`: it says nothing of it.
fn accepted(request: &Fields, coding: Coding) -> Option<u16> {
    quality(request, coding.token().as_bytes()).or_else(|| quality(request, b"*"))
}

/// The quality value of one name in `Accept-Encoding`, in whatever case.
fn quality(request: &Fields, name: &[u8]) -> Option<u16> {
    request.list("accept-encoding").find_map(|member| {
        let mut parts = member.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let token = parts.next()?;
        let is_gzip = token.eq_ignore_ascii_case(b"x-gzip") && name == b"gzip";
        if !is_gzip && !token.eq_ignore_ascii_case(name) {
            return None;
        }
        let weight = parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
        weight.map_or(Some(FULL), thousandths)
    })
}

/// A quality value as RFC 9110 section 12.4.2 has it; what is none does not count.
fn thousandths(value: &[u8]) -> Option<u16> {
    let (whole, rest) = value.split_first()?;
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return None,
    };
    let mut thousandths = match whole {
        b'0' => 0,
        b'1' => FULL,
        _ => return None,
    };
    for (digit, worth) in digits.iter().zip([100, 10, 1]) {
        thousandths += u16::from(digit.is_ascii_digit().then(|| digit - b'0')?) * worth;
    }
    (thousandths <= FULL).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use super::Coding::{Br, Deflate, Gzip, Zstd};
    use super::*;

    #[test]
    fn rfc9110_12_5_3_the_best_liked_coding_is_chosen_and_ours_decides_where_none_is() {
        for (field, chosen) in [
            (None, None),
            (Some(""), None),
            (Some("gzip"), Some(Gzip)),
            (Some("X-GZIP"), Some(Gzip)),
            (Some("gzip, deflate, br, zstd"), Some(Br)),
            (Some("gzip;q=1.0, br;q=0.5"), Some(Gzip)),
            (Some("gzip; Q=0.4 , zstd;q=0.401"), Some(Zstd)),
            (Some("br;q=0, gzip"), Some(Gzip)),
            (Some("*"), Some(Br)),
            (Some("br;q=0, *;q=0.1"), Some(Zstd)),
            (Some("*;q=0"), None),
            (Some("*;q=0, gzip"), Some(Gzip)),
            (Some("identity"), None),
            (Some("identity, gzip"), Some(Gzip)),
            (Some("identity;q=1, gzip;q=0.5"), None),
            (Some("identity;q=0.5, gzip;q=0.6"), Some(Gzip)),
            (Some("identity;q=0"), None),
            (Some("identity;q=0, gzip;q=0.001"), Some(Gzip)),
            (Some("deflate"), None),
            (Some("compress, dcb"), None),
        ] {
            let fields: Fields = field.map(|value| ("Accept-Encoding", value)).into_iter().collect();
            assert_eq!(preferred(&fields, &[Br, Zstd, Gzip]), chosen, "{field:?}");
        }
    }

    #[test]
    fn rfc9110_12_4_2_what_is_no_quality_value_counts_as_nothing_said() {
        for value in
            ["gzip;q=2", "gzip;q=1.001", "gzip;q=.5", "gzip;q=0.1234", "gzip;q=", "gzip;q=-1", "gzip;q=0.x"]
        {
            let fields: Fields = [("Accept-Encoding", value)].into_iter().collect();
            assert_eq!(preferred(&fields, &[Gzip]), None, "{value}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let fields: Fields =
            [("Accept-Encoding", "br;q=0"), ("accept-encoding", "deflate")].into_iter().collect();
        assert!(accepts(&fields, Deflate) && !accepts(&fields, Br) && !accepts(&fields, Gzip));
    }
}
