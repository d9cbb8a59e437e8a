//! Every way a packet or a flow can end, in one table each: symbol, name, sentence.
//!
//! Adding a reason here adds its counter, its name in logs and its help text.

use crate::flow::Side;

macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($symbol:ident $key:literal $sentence:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $(#[doc = $sentence] $symbol,)+ }

        impl $name {
            /// All of them, in counter order.
            pub const ALL: &'static [Self] = &[$(Self::$symbol,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name used in counters, logs and reports.
            pub const fn key(self) -> &'static str {
                match self { $(Self::$symbol => $key,)+ }
            }

            /// One sentence for people.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$symbol => $sentence,)+ }
            }

            /// Its place in a table of counters.
            pub const fn index(self) -> usize {
                self as usize
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.key())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.key())
            }
        }
    };
}

reasons! {
    /// Why a packet was dropped.
    DropReason {
        Truncated "truncated" "the packet ends before its headers or its stated length do",
        Oversized "oversized" "the packet is longer than the next port carries",
        NotIp "not_ip" "the frame is neither IPv4 nor ARP",
        IpVersion "ip_version" "the IP version or header length is wrong",
        IpChecksum "ip_checksum" "the IP header checksum is wrong",
        IpOptions "ip_options" "the packet carries IP options, which are not forwarded",
        L4Checksum "l4_checksum" "the TCP, UDP or ICMP checksum is wrong",
        TcpOptions "tcp_options" "the TCP header or its options are malformed",
        TcpFlags "tcp_flags" "the TCP flags make no sense together",
        Fragment "fragment" "the packet is an IP fragment; fragments are not carried yet",
        Martian "martian" "the source or destination address cannot be real on this port",
        Land "land" "source and destination are the same",
        Ttl "ttl" "the time to live has run out",
        NotForUs "not_for_us" "the frame is addressed to another station",
        Protocol "protocol" "the IP protocol is none of TCP, UDP and ICMP",
        OwnAddress "own_address" "the packet is for an address of the gateway that answers nothing there",
        Denied "denied" "a rule denies the flow",
        NoBinding "no_binding" "no flow is known for the packet, and it cannot open one",
        BadCookie "bad_cookie" "no flow is known for the packet, and it does not return a SYN cookie of the last two minutes",
        StaleHandle "stale_handle" "the packet belongs to a flow that has ended",
        TableFull "table_full" "the flow table is full: a new flow was refused",
        ClientLimit "client_limit" "the client has as many flows as it may have",
        PortsExhausted "ports_exhausted" "no public port is free for a new flow",
        RingFull "ring_full" "the ring to the other core is full: an old flow lost a packet",
        RingFullNew "ring_full_new" "the ring to the proxy core is full: a new flow was refused",
        NoFrame "no_frame" "the frame pool has run dry",
        TxFull "tx_full" "the port's transmit queue is full",
        Unresolved "unresolved" "the next hop's link address is not known",
        ResolveQueueFull "resolve_queue_full" "too many packets wait for the next hop's link address",
        NoRoute "no_route" "no port leads to the destination",
        ArpStranger "arp_stranger" "the ARP message is malformed, spoofed or was not asked for",
        IcmpUnrelated "icmp_unrelated" "the ICMP message concerns no known flow",
        PairLimit "pair_limit" "the proxy core has as many pairs as it may have",
        Draining "draining" "the gateway is stopping and takes no new flows",
        NoBuffer "no_buffer" "the pair or core holds as many bytes as it may hold",
        OutOfWindow "out_of_window" "the TCP segment lies outside the receive window",
        Paws "paws" "the TCP timestamp is older than the last one (RFC 7323 section 5)",
        Unacceptable "unacceptable" "the TCP segment is not acceptable in this state (RFC 9293 section 3.10)",
        Filtered "filtered" "a filter dropped the datagram",
        Internal "internal" "a fault of the gateway itself",
    }
}

reasons! {
    /// Why a flow ended.
    CloseReason {
        Finished "finished" "both streams ended in order",
        FirstReset "first_reset" "the client reset the connection",
        SecondReset "second_reset" "the server reset the connection",
        Refused "refused" "the server refused the connection",
        Unreachable "unreachable" "an ICMP error said that the server cannot be reached",
        ConnectTimeout "connect_timeout" "the server did not answer the connection attempt",
        HalfOpen "half_open" "the client did not complete the handshake",
        FirstTimeout "first_timeout" "the client stopped answering",
        SecondTimeout "second_timeout" "the server stopped answering",
        FirstDead "first_dead" "the client answered no keepalive probe",
        SecondDead "second_dead" "the server answered no keepalive probe",
        FirstStalled "first_stalled" "the client kept its window shut for longer than it may",
        SecondStalled "second_stalled" "the server kept its window shut for longer than it may",
        Idle "idle" "the flow was idle for longer than it may be",
        Blocked "blocked" "a filter blocked the flow",
        BadMessage "bad_message" "a message was not HTTP, or not in one way only, or its head took too long",
        FilterError "filter_error" "a filter failed or exceeded its budget",
        Denied "denied" "a rule denies the flow",
        Malformed "malformed" "the flow's first packet was malformed or opens nothing",
        Resources "resources" "a table, pool or limit was exhausted",
        Reload "reload" "a new policy ended the flow",
        Operator "operator" "an operator ended the flow",
        Shutdown "shutdown" "the gateway was stopped",
        Internal "internal" "a fault of the gateway itself",
    }
}

impl CloseReason {
    /// Whether nothing went wrong: it ended in order, by its silence, or by the client's own word, as browsers like to.
    pub const fn is_ordinary(self) -> bool {
        matches!(self, Self::Finished | Self::Idle | Self::FirstReset)
    }

    /// The leg to which it happened: that of the client ([`Side::First`]) or of the server. `None`: the gateway itself ended
    /// the flow, or both hosts did in order.
    pub const fn leg(self) -> Option<Side> {
        match self {
            Self::FirstReset | Self::HalfOpen | Self::FirstTimeout | Self::FirstDead | Self::FirstStalled => {
                Some(Side::First)
            }
            Self::SecondReset
            | Self::Refused
            | Self::Unreachable
            | Self::ConnectTimeout
            | Self::SecondTimeout
            | Self::SecondDead
            | Self::SecondStalled => Some(Side::Second),
            Self::Finished
            | Self::Idle
            | Self::Blocked
            | Self::BadMessage
            | Self::FilterError
            | Self::Denied
            | Self::Malformed
            | Self::Resources
            | Self::Reload
            | Self::Operator
            | Self::Shutdown
            | Self::Internal => None,
        }
    }
}
