"""A process that records in its children, one after the other, and kills them: started by the tests, told what to do line by line.

Everything is imported once, before the first fork, and nothing is run here: a child starts at once, and with no threads but its own.
"""

import json
import os
import signal
import sys
import time
import traceback

import numpy as np
import torch
import torch.nn.functional

import seqscope as sq
import seqscope.engines.torch
import seqscope.recording.verb

N, SHARD = 96, 8
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "open"}


class Net(torch.nn.Module):
    """A small net that takes its time where it is told to."""

    nap = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = torch.nn.LSTM(3, 8, batch_first=True), torch.nn.Linear(8, 2)

    def forward(self, x):
        time.sleep(self.nap)
        return self.fc(self.lstm(x)[0][:, -1])


def make():
    """The net and the data, the same in every process."""
    random = np.random.default_rng(0)
    net = Net().eval()
    with torch.no_grad():
        for values in net.parameters():
            values.copy_(torch.from_numpy(random.uniform(-0.5, 0.5, values.shape)))
    X = sq.Sequences(
        [random.standard_normal((n, 3)).astype(np.float32) for n in random.integers(4, 9, N)],
        labels=["a", "b"] * (N // 2),
        outputs=["a", "b"],
    )
    return net, X


def die_at(store: str, change: int) -> None:
    """Kill this process right before so many changes were made to the files of a store."""
    left = [change]

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event in CHANGES and str(args[0]).startswith(store) and (event != "open" or (isinstance(args[2], int) and args[2] & os.O_CREAT)):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def child(net, X, job) -> None:
    """Record as a job says."""
    torch.set_num_threads(1)
    Net.nap = job.get("nap", 0.0)
    if job.get("change") is not None:
        die_at(job["store"], job["change"])
    sq.Scope(net).record(X, job["store"], "lstm", states={"lstm": "c"}, shard=SHARD, **job.get("options", {}))


def begun(net, X, job) -> int:
    """Start a child for a job."""
    pid = os.fork()
    if pid:
        return pid
    code = 0
    try:
        child(net, X, job)
    except BaseException as error:
        code = 1
        told = str(error) if isinstance(error, sq.errors.SeqscopeError) else "".join(traceback.format_exception(error))
        with open(job["said"], "w") as file:
            file.write(f"{type(error).__name__}: {told}")
    os._exit(code)


def main() -> None:
    """Do as the lines say: start a child, send it a signal after some time, wait for it."""
    net, X = make()
    for line in sys.stdin:
        job = json.loads(line)
        pid = job.get("pid") or begun(net, X, job)
        if not job.get("goes_on"):
            if job.get("signal"):
                time.sleep(job.get("after", 0.0))
                os.kill(pid, job["signal"])
            sent = time.monotonic()
            _, status = os.waitpid(pid, 0)
            print(json.dumps({"pid": pid, "code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - sent}), flush=True)
        else:
            print(json.dumps({"pid": pid}), flush=True)


if __name__ == "__main__":
    main()
