"""One direction through PNAT's NAT, for TRex's stateless mode: the scenarios nat-64b and imix, and a stream for latency.

    start -f nat.py -p 0 -m 1mpps -d 60 -t --sizes 64 --clients 1024 --ports 63

The client's side is port 0. The latency stream has a rate of its own, which -m does not change.
"""

import argparse

from trex_stl_lib.api import *

# Sizes count the frame check sequence, and each of them comes so often in a round.
SIZES = {"64": [(64, 1)], "imix": [(64, 7), (570, 4), (1518, 1)]}
FCS = 4


class Nat:
    def get_streams(self, tunables, **kwargs):
        parser = argparse.ArgumentParser(description="UDP of many clients to one server")
        parser.add_argument("--sizes", choices=sorted(SIZES), default="64")
        parser.add_argument("--clients", type=int, default=1024, help="addresses from 10.0.16.0 on")
        parser.add_argument("--ports", type=int, default=63, help="of each, from 2000 on")
        parser.add_argument("--latency", type=int, default=1000, help="frames per second; 0: none")
        args = parser.parse_args(tunables)
        streams = [self.flows(args, size, weight) for size, weight in SIZES[args.sizes]]
        if args.latency:
            streams.append(self.latency(args.latency))
        return streams

    def flows(self, args, size, weight):
        last = (10 << 24) + (16 << 8) + args.clients - 1
        vm = STLVM()
        vm.tuple_var(
            name="client",
            ip_min="10.0.16.0",
            ip_max=".".join(str(last >> shift & 255) for shift in (24, 16, 8, 0)),
            port_min=2000,
            port_max=1999 + args.ports,
            limit_flows=args.clients * args.ports,
        )
        vm.write(fv_name="client.ip", pkt_offset="IP.src")
        vm.write(fv_name="client.port", pkt_offset="UDP.sport")
        vm.fix_chksum()
        return STLStream(packet=self.packet(size, vm), mode=STLTXCont(pps=weight))

    def latency(self, rate):
        return STLStream(
            packet=self.packet(128, None),
            mode=STLTXCont(pps=rate),
            flow_stats=STLFlowLatencyStats(pg_id=7),
        )

    def packet(self, size, vm):
        base = Ether() / IP(src="10.0.20.1", dst="203.0.113.1") / UDP(sport=2000, dport=53, chksum=0)
        padding = max(0, size - FCS - len(base)) * "x"
        return STLPktBuilder(pkt=base / padding, vm=vm)


def register():
    return Nat()
