"""What many faults come to: kills, a thousand joins and leaves under load, a server that dies, a cable cut for 30 s.

python -m tests.distributed.endurance [kills|joins|server|cable …]     writes docs/swarms.json, which the docs tabulate
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aleator.distributed import Address, GradientLog, RedisTransport, fingerprint
from aleator.experiment.files import read_json, write_json
from tests.distributed.swarms import Cable, Machine, Server, start, together

REPOSITORY = Path(__file__).parents[2]
Figures = dict[str, Any]


def board(server: Server, port: int | None = None) -> RedisTransport:
    return RedisTransport(Address.parse(f"redis://127.0.0.1:{port or server.port}"))


def equal_weights(members: list[Machine]) -> str:
    """How many of the members have the weights that the log of the first makes of θ₀."""
    log = GradientLog.from_bytes(members[0].place.log.to_bytes())
    theta = start()
    log.replay(theta, members[0].replica.round)
    return f"{sum(member.weights == fingerprint(theta) for member in members)} of {len(members)}"


def kills(place: Path, count: int = 50, machines: int = 4) -> Figures:
    """Four real processes; one of them is killed every so often, and rejoins as the same machine from θ₀."""
    server, draw = Server(place / "redis"), random.Random(0)
    deadline = place / "last"

    def begin(machine: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            member = Machine(board(server), again=(machine,), options={"round_timeout": 1.0})
            last = 10**9
            while member.replica.round < last:
                member.step()
                last = int(deadline.read_text()) if deadline.exists() else last
            (place / f"weights-{machine}").write_text(f"{member.replica.round} {member.weights.hex()}")
        finally:
            os._exit(0)

    try:
        running = {machine: begin(machine) for machine in range(machines)}
        begun = time.monotonic()
        for _ in range(count):
            time.sleep(draw.uniform(0.2, 1.0))
            machine = draw.randrange(machines)
            os.kill(running[machine], signal.SIGKILL)
            os.waitpid(running[machine], 0)
            running[machine] = begin(machine)
        temporary = place / "last.partial"
        temporary.write_text(str(board(server).last() + 20))
        temporary.rename(deadline)
        for pid in running.values():
            os.waitpid(pid, 0)
        # Who was behind stopped later; the log says what each must have had at its round.
        late = Machine(board(server))
        states = [(place / f"weights-{machine}").read_text().split() for machine in range(machines)]
        right = 0
        for number, weights in sorted(states):
            late.go_to(int(number))
            right += late.weights.hex() == weights
        return {
            "processes killed and back": count,
            "rounds": late.place.log.next_round,
            "seconds": round(time.monotonic() - begun),
            "replicas equal to the replay": f"{right} of {machines}",
        }
    finally:
        server.kill()


def joins(place: Path, count: int = 1000, pool: int = 8) -> Figures:
    """Two machines that stay, and eight that come and go: most say that they leave, a tenth vanishes."""
    server = Server(place / "redis")
    options = {"round_timeout": 0.3}
    try:
        steady = [Machine(board(server), options=options) for _ in range(2)]
        over, lock, done = threading.Event(), threading.Lock(), {"joins": 0, "told": 0, "fresh": 0}
        errors: list[BaseException] = []

        def stay(member: Machine) -> None:
            while not over.is_set():
                member.step()

        def come_and_go(seed: int) -> None:
            draw, member = random.Random(seed), None
            while True:
                with lock:
                    if done["joins"] == count:
                        return
                    done["joins"] += 1
                    fresh = member is None or draw.random() < 0.02
                    done["fresh"] += fresh
                if fresh:
                    member = Machine(board(server), options=options)
                else:
                    member.place.transport = board(server)
                    member.place.join(again=member.place.machines)
                taken = 0
                while taken < draw.randint(1, 4):
                    before = len(member.place.log)
                    member.step()
                    newest = list(member.place.log._rounds)[before:]
                    taken += bool(newest)
                if draw.random() < 0.9:
                    member.place.leave()
                    with lock:
                        done["told"] += 1
                member.place.transport.close()
                members[seed] = member

        def guarded(work: Callable[[Any], None], argument: Any) -> None:
            try:
                work(argument)
            except BaseException as error:
                errors.append(error)

        members: dict[int, Machine] = {}
        begun = time.monotonic()
        staying = [threading.Thread(target=guarded, args=(stay, member), daemon=True) for member in steady]
        going = [threading.Thread(target=guarded, args=(come_and_go, seed), daemon=True) for seed in range(pool)]
        for thread in (*staying, *going):
            thread.start()
        for thread in going:
            thread.join()
        over.set()
        for thread in staying:
            thread.join()
        if errors:
            raise errors[0]
        seconds = time.monotonic() - begun
        every = [*steady, *members.values()]
        for member in members.values():
            member.place.transport = board(server)
            member.place.join(again=member.place.machines)
        last = max(member.replica.round for member in every) + 3
        together(every, last)
        fresh = Machine(board(server))
        fresh.go_to(last)
        return {
            "joins": done["joins"],
            "of them from θ₀": done["fresh"],
            "leaves that were told": done["told"],
            "rounds": last,
            "seconds": round(seconds),
            "replicas equal to the replay": equal_weights([*every, fresh]),
        }
    finally:
        server.kill()


def server_dies(place: Path, count: int = 20) -> Figures:
    """The server is killed again and again, every other time with bytes of its last entry lost."""
    server, draw = Server(place / "redis"), random.Random(1)
    try:
        members = [Machine(board(server), options={"min_machines": 3, "round_timeout": 60.0}) for _ in range(3)]
        over = threading.Event()
        errors: list[BaseException] = []

        def go(member: Machine) -> None:
            try:
                while not over.is_set():
                    member.step()
            except BaseException as error:
                errors.append(error)

        for member in members:
            member.place.stop_requested = over.is_set
        threads = [threading.Thread(target=go, args=(member,), daemon=True) for member in members]
        for thread in threads:
            thread.start()
        begun = time.monotonic()
        for number in range(count):
            time.sleep(draw.uniform(0.3, 1.0))
            server.kill()
            if number % 2:
                server.cut_off(draw.randint(1, min(60, server.append_only_file().stat().st_size)))
            time.sleep(draw.uniform(0.0, 0.5))
            server.start()
        over.set()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        for member in members:
            member.place.stop_requested = lambda: False
        last = max(member.replica.round for member in members) + 3
        together(members, last)
        late = Machine(board(server))
        late.go_to(last)
        return {
            "kills": count,
            "of them with lost bytes": count // 2,
            "rounds": last,
            "seconds": round(time.monotonic() - begun),
            "replicas equal to the replay": equal_weights([*members, late]),
        }
    finally:
        server.kill()


def cable(place: Path, seconds: float = 30.0) -> Figures:
    """One of two machines loses its line for 30 s; the other goes on."""
    server = Server(place / "redis")
    line = Cable(server.port)
    try:
        here = Machine(board(server), options={"round_timeout": 2.0})
        there = Machine(board(server, line.port), options={"round_timeout": 2.0})
        together([here, there], 5)
        over = threading.Event()

        def go(member: Machine) -> None:
            while not over.is_set():
                member.step()
                time.sleep(0.05)

        threads = [threading.Thread(target=go, args=(member,), daemon=True) for member in (here, there)]
        for thread in threads:
            thread.start()
        line.cut()
        time.sleep(seconds)
        meanwhile, behind = here.replica.round, there.replica.round
        line.mend()
        mended = time.monotonic()
        while there.replica.round < meanwhile:
            time.sleep(0.01)
        back = time.monotonic() - mended
        over.set()
        for thread in threads:
            thread.join()
        last = max(here.replica.round, there.replica.round) + 3
        together([here, there], last)
        return {
            "seconds cut off": round(seconds),
            "rounds of the other meanwhile": meanwhile - behind,
            "seconds to catch up": round(back, 1),
            "replicas equal to the replay": equal_weights([here, there]),
        }
    finally:
        line.close()
        server.kill()


WHAT: dict[str, tuple[str, Callable[[Path], Figures]]] = {
    "kills": ("Four processes on a Redis server; one is killed (SIGKILL) at a random moment and rejoins", kills),
    "joins": ("Joins and leaves under load, a tenth of the leaves without a word", joins),
    "server": ("The server is killed (SIGKILL) and started again, every other time with lost bytes", server_dies),
    "cable": ("One of two machines is cut off from the server", cable),
}  # fmt: skip


def main(names: list[str]) -> None:
    path = REPOSITORY / "docs" / "swarms.json"
    rows = {row["name"]: row for row in read_json(path)["rows"]} if path.exists() else {}
    for name in names or WHAT:
        what, carry_out = WHAT[name]
        with tempfile.TemporaryDirectory() as place:
            figures = carry_out(Path(place))
        print(name, figures, flush=True)  # noqa: T201
        rows[name] = {"name": name, "what": what, "figures": figures}
        write_json(path, {"rows": [rows[name] for name in WHAT if name in rows]})


if __name__ == "__main__":
    main(sys.argv[1:])
