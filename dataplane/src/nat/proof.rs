//! Whether the client of a proxied TCP flow has shown that it has the address it names: until then the flow is half-open.
//!
//! Runs on: worker. Allocates: never. Blocks: never.
//!
//! Only who receives the SYN-ACK knows its number, and so what to acknowledge. Two bytes must do, for a flow's entry fills
//! two cache lines: of the number 15 bits are compared, and a guess helps one flow in 32,768.

use pnat_shared::wire::tcp::Seq;

/// What a client owes. 0: nothing; 1: the SYN-ACK has not passed yet; else the ACK number's low bits.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Proof(u16);

impl Proof {
    /// Nothing is owed.
    pub const GIVEN: Self = Self(0);
    /// It is owed, and nothing can give it before a SYN-ACK has passed.
    pub const OWED: Self = Self(1);

    pub const fn is_owed(self) -> bool {
        self.0 != Self::GIVEN.0
    }

    /// A SYN-ACK with this number went to the client.
    pub const fn ask(&mut self, iss: Seq) {
        if self.is_owed() {
            self.0 = Self::low(iss.0.wrapping_add(1));
        }
    }

    /// The client acknowledges this number. Answers whether that gives the proof which was owed.
    pub const fn give(&mut self, ack: Seq) -> bool {
        let gives = self.0 == Self::low(ack.0);
        if gives {
            *self = Self::GIVEN;
        }
        gives
    }

    /// The bits that are compared; never what [`Proof::GIVEN`] or [`Proof::OWED`] are.
    const fn low(number: u32) -> u16 {
        number as u16 | 0b10
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn only_the_number_that_was_sent_proves(iss: u32, wrong: u32) {
            let mut proof = Proof::OWED;
            prop_assert!(!proof.give(Seq(wrong)), "no SYN-ACK has passed");
            proof.ask(Seq(iss));
            if (wrong ^ iss.wrapping_add(1)) & 0xfffd != 0 {
                prop_assert!(!proof.give(Seq(wrong)) && proof.is_owed());
            }
            prop_assert!(proof.give(Seq(iss) + 1) && !proof.is_owed());
            proof.ask(Seq(iss));
            prop_assert!(!proof.is_owed(), "a repeated SYN-ACK asks nothing anew");
        }
    }
}
