//! How keys and records are written to disk.
//!
//! Runs on: the cache's threads. Allocates: what is read. Blocks: never; the storage does.
//!
//! Numbers are little-endian; texts and bytes follow their lengths (32 bits). The first byte of a record tells its kind, so that a
//! later form can be told from this one. What does not read is no record: the storage then finds nothing there.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foyer::{Code, Error, ErrorKind};

use super::key::Key;
use super::policy::{Moments, Terms};
use super::stored::{Record, Stored, Variants};
use crate::message::Response;

const RESPONSE: u8 = 1;
const VARIANTS: u8 = 2;

impl Code for Key {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        put_bytes(writer, self.as_str().as_bytes()).map_err(Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        take_text(reader).map(|key| Self::from(key.as_str())).map_err(unreadable)
    }

    fn estimated_size(&self) -> usize {
        4 + self.as_str().len()
    }
}

impl Code for Record {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        match self {
            Self::Response(stored) => put_response(writer, stored),
            Self::Variants(variants) => put_variants(writer, variants),
            Self::Uncacheable(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
        .map_err(Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let record = match take::<1>(reader).map_err(unreadable)? {
            [RESPONSE] => take_response(reader).map(|stored| Self::Response(Arc::new(stored))),
            [VARIANTS] => take_variants(reader).map(|variants| Self::Variants(Arc::new(variants))),
            _ => Err(io::ErrorKind::InvalidData.into()),
        };
        record.map_err(unreadable)
    }

    fn estimated_size(&self) -> usize {
        self.weight()
    }
}

/// A fault of which the storage forgets what lies there.
fn unreadable(error: io::Error) -> Error {
    Error::new(ErrorKind::OutOfRange, "not a record").with_source(error)
}

fn put_response(writer: &mut impl Write, stored: &Stored) -> io::Result<()> {
    let Stored { head, content, moments, terms, .. } = stored;
    writer.write_all(&[RESPONSE, terms.always_validate.into(), terms.must_revalidate.into()])?;
    for number in [terms.age, terms.lifetime, terms.while_revalidate, terms.if_error] {
        writer.write_all(&number.to_le_bytes())?;
    }
    put_time(writer, moments.requested)?;
    put_time(writer, moments.received)?;
    writer.write_all(&head.status().to_le_bytes())?;
    put_bytes(writer, head.reason().as_bytes())?;
    put_count(writer, head.fields().len())?;
    for (name, value) in head.fields().iter() {
        put_bytes(writer, name.as_bytes())?;
        put_bytes(writer, value)?;
    }
    put_bytes(writer, content)
}

fn take_response(reader: &mut impl Read) -> io::Result<Stored> {
    let [always_validate, must_revalidate] = take::<2>(reader)?.map(|byte| byte != 0);
    let mut number = || take::<8>(reader).map(u64::from_le_bytes);
    let (age, lifetime) = (number()?, number()?);
    let (while_revalidate, if_error) = (number()?, number()?);
    let terms = Terms { age, lifetime, always_validate, must_revalidate, while_revalidate, if_error };
    let moments = Moments { requested: take_time(reader)?, received: take_time(reader)? };
    let status = u16::from_le_bytes(take(reader)?);
    let mut head = Response::new(status, &take_text(reader)?);
    for _ in 0..take_count(reader)? {
        let (name, value) = (take_text(reader)?, take_bytes(reader)?);
        head.fields_mut().push(&name, &value);
    }
    let content = Bytes::from(take_bytes(reader)?);
    Ok(Stored::new(head, content, moments, terms))
}

fn put_variants(writer: &mut impl Write, variants: &Variants) -> io::Result<()> {
    writer.write_all(&[VARIANTS])?;
    writer.write_all(&variants.generation.to_le_bytes())?;
    put_time(writer, variants.requested)?;
    put_count(writer, variants.names.len())?;
    variants.names.iter().try_for_each(|name| put_bytes(writer, name.as_bytes()))
}

fn take_variants(reader: &mut impl Read) -> io::Result<Variants> {
    let generation = u64::from_le_bytes(take(reader)?);
    let requested = take_time(reader)?;
    let names = (0..take_count(reader)?).map(|_| take_text(reader)).collect::<io::Result<_>>()?;
    Ok(Variants { names, generation, requested })
}

fn put_time(writer: &mut impl Write, time: Duration) -> io::Result<()> {
    writer.write_all(&time.as_secs().to_le_bytes())?;
    writer.write_all(&time.subsec_nanos().to_le_bytes())
}

fn take_time(reader: &mut impl Read) -> io::Result<Duration> {
    let seconds = u64::from_le_bytes(take(reader)?);
    let nanos = u32::from_le_bytes(take(reader)?);
    // A sum with seconds near the largest number would panic.
    if seconds > u64::from(u32::MAX) * 100 || nanos >= 1_000_000_000 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Duration::new(seconds, nanos))
}

fn put_count(writer: &mut impl Write, count: usize) -> io::Result<()> {
    let count = u32::try_from(count).map_err(|_| io::ErrorKind::InvalidInput)?;
    writer.write_all(&count.to_le_bytes())
}

fn take_count(reader: &mut impl Read) -> io::Result<u32> {
    take(reader).map(u32::from_le_bytes)
}

fn put_bytes(writer: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    put_count(writer, bytes.len())?;
    writer.write_all(bytes)
}

fn take_bytes(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let count = u64::from(take_count(reader)?);
    let mut bytes = Vec::new();
    // Not made room for at once: a count may lie.
    reader.by_ref().take(count).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == count { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn take_text(reader: &mut impl Read) -> io::Result<String> {
    String::from_utf8(take_bytes(reader)?).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn take<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let mut head = Response::new(200, "OK");
        head.fields_mut().push("X", b"\xff");
        let moments = Moments { requested: Duration::from_millis(1_500), received: Duration::from_secs(2) };
        let terms = Terms { age: 1, lifetime: 2, must_revalidate: true, if_error: 3, ..Terms::default() };
        Record::Response(Arc::new(Stored::new(head, Bytes::from_static(b"content"), moments, terms)))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let Record::Response(stored) = record() else { unreachable!() };
        let mut bytes = Vec::new();
        record().encode(&mut bytes).unwrap();
        let Record::Response(read) = Record::decode(&mut &bytes[..]).unwrap() else { unreachable!() };
        assert_eq!((&read.head, &read.content), (&stored.head, &stored.content));
        assert_eq!((read.moments, read.terms), (stored.moments, stored.terms));

        let variants =
            Variants { names: vec!["a".into(), "b".into()], generation: 7, requested: Duration::ZERO };
        let mut bytes = Vec::new();
        Record::Variants(Arc::new(variants)).encode(&mut bytes).unwrap();
        let Record::Variants(read) = Record::decode(&mut &bytes[..]).unwrap() else { unreachable!() };
        assert_eq!((&read.names[..], read.generation), (&["a".to_owned(), "b".to_owned()][..], 7));
    }

    #[test]
    fn no_bytes_from_disk_can_do_harm() {
        let mut whole = Vec::new();
        record().encode(&mut whole).unwrap();
        for end in 0..whole.len() {
            assert!(Record::decode(&mut &whole[..end]).is_err(), "cut at {end}");
            for byte in [0, 0xff] {
                let mut bytes = whole.clone();
                bytes[end] = byte;
                // Whatever comes of it, it must not panic, nor take memory for what is not there.
                let _ = Record::decode(&mut &bytes[..]).map(|record| record.weight());
            }
        }
    }
}
