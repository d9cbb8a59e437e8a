//! Every exchange, over every way through the gateway.

/// Makes one test of each named exchange, in a lab made by `$lab`.
macro_rules! over {
    ($lab:expr => $($exchange:ident)+) => {
        $(#[test]
        fn $exchange() {
            crate::exchange::$exchange(&$lab);
        })+
    };
}

/// By the proxy: two sockets, with a filter chain between them.
mod proxied {
    use crate::{fixture::Lab, policy};

    over! { Lab::start(&policy::proxied()) =>
        http_page_is_fetched_by_name
        https_page_is_fetched_by_name
        names_are_looked_up
        ping_is_answered
        big_file_goes_down_and_up_at_the_same_time_unharmed
        two_thousand_connections_are_open_at_once
        client_may_end_its_stream_first
        server_may_speak_first_and_end_its_stream_first
        slow_reader_gets_every_byte
        reset_reaches_the_other_side
        datagrams_keep_their_boundaries
        port_unreachable_reaches_the_udp_client
    }
}

/// By the proxy, while one packet in a hundred is lost on either wire, either way.
mod proxied_with_loss {
    use crate::{fixture::Lab, policy};

    over! { Lab::with_loss(1, &policy::proxied()) =>
        http_page_is_fetched_by_name
        https_page_is_fetched_by_name
        names_are_looked_up
        big_file_goes_down_and_up_at_the_same_time_unharmed
        two_thousand_connections_are_open_at_once
        client_may_end_its_stream_first
        server_may_speak_first_and_end_its_stream_first
        slow_reader_gets_every_byte
    }
}

/// By the proxy, whose workers answer every SYN by a cookie.
mod accepted_early {
    use crate::{fixture::Lab, policy};

    over! { Lab::start(&policy::accepted_early()) =>
        http_page_is_fetched_by_name
        https_page_is_fetched_by_name
        big_file_goes_down_and_up_at_the_same_time_unharmed
        two_thousand_connections_are_open_at_once
        client_may_end_its_stream_first
        server_may_speak_first_and_end_its_stream_first
        slow_reader_gets_every_byte
        reset_reaches_the_other_side
    }
}

/// By packet translation alone.
mod translated {
    use crate::{fixture::Lab, policy};

    over! { Lab::start(&policy::translated()) =>
        http_page_is_fetched_by_name
        https_page_is_fetched_by_name
        names_are_looked_up
        ping_is_answered
        big_file_goes_down_and_up_at_the_same_time_unharmed
        two_thousand_connections_are_open_at_once
        client_may_end_its_stream_first
        server_may_speak_first_and_end_its_stream_first
        slow_reader_gets_every_byte
        reset_reaches_the_other_side
        datagrams_keep_their_boundaries
        port_unreachable_reaches_the_udp_client
    }
}
