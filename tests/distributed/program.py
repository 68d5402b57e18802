"""One of two processes with data of its own: 50 rounds through the store of ``torch.distributed``; prints the hash."""

import torch.distributed as dist

from aleator.distributed import tcp_store
from tests.distributed.swarms import Member


def main() -> None:
    dist.init_process_group("gloo")
    board, port = tcp_store("127.0.0.1", 0, serve=True) if dist.get_rank() == 0 else (None, 0)
    ports = [port]
    dist.broadcast_object_list(ports)
    board = board or tcp_store("127.0.0.1", ports[0])[0]
    member = Member(board, again=(dist.get_rank(),), options={"min_machines": 2, "round_timeout": 60.0})
    member.go_to(50)
    traffic = member.swarm.traffic
    print(member.weights.hex(), traffic.gradients_sent, traffic.gradients_received)  # noqa: T201
    dist.barrier()


main()
