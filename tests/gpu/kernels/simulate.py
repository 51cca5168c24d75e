"""The main loop of a kernel on paper: what it consists of, and how long a stage of it takes.

    cuobjdump -sass -arch sm_90a linear.fatbin | python3 simulate.py linear_split_large:3:1 …

Read from standard input: what cuobjdump says of machine code. Arguments: kernels, each as
`name:steps:blocks` with how often the inner loop runs in a stage (1 where it is unrolled) and how many blocks
share a multiprocessor. Written for each, one line: the name, the cycles of a stage, the instructions of a
stage that a warp issues, and how many of each kind they are, as `kind=count`.

The loop is the first that copies, multiplies and has a barrier. Of its paths the one is taken that multiplies
most and, of those, copies and loads most and is shortest: whole stages of whole tiles, in 16-byte copies.

A multiprocessor is four schedulers, which share one path to shared memory. A scheduler issues, each cycle,
the next instruction of one of its warps, in order, if the stall count that the compiler wrote into the
instruction before it is over, the scoreboards that it waits for are free, and its pipe is. Copies are never
late: what is simulated is the loop, not memory. Figures are of an H100 and not calibrated against one: tensor
cores at 63% of what they are sold for, as `mma` reaches there; two pipes for float arithmetic of which
integer multiplication shares one; half a warp a cycle for everything else.
"""

import collections
import re
import sys

# Kinds of instructions, by how their names begin; the first that fits.
KINDS = [
    ("HMMA", "HMMA"), ("FFMA", "FFMA"), ("FADD", "FADD FMUL"), ("IMAD", "IMAD HFMA2 UIMAD"),
    ("LDSM", "LDSM"), ("LDS", "LDS"), ("STS", "STS"), ("LDGSTS", "LDGSTS"), ("LDGDEPBAR", "LDGDEPBAR"),
    ("GLOBAL", "LDG STG LD ST"), ("BAR", "BAR"), ("DEPBAR", "DEPBAR"), ("SHFL", "SHFL"), ("MUFU", "MUFU F2F"),
    ("LOCAL", "LDL STL"), ("BRANCH", "BRA BSSY BSYNC WARPSYNC BREAK CALL RET EXIT NOP"),
    ("COMPARE", "FSETP ISETP SEL FSEL FMNMX"), ("LOGIC", "LOP3 SHF PRMT PLOP3"), ("ADD", "IADD3 VIADD LEA"),
]
MULTIPLIES = ("HMMA", "FFMA")

# Cycles that a pipe is busy with an instruction of a warp.
TENSOR, HALF_RATE, SPECIAL = 6.35, 2, 8
# From issue to result, of shared memory, of special functions and of the rest.
SHARED_LATENCY, SPECIAL_LATENCY, LATENCY = 30, 20, 12
# From the last thread's arrival at a barrier to the first's next instruction.
BARRIER = 8
SCHEDULERS = 4
# Of a block.
WARPS = {"_large": 8, "_medium": 4, "_small": 2}
# Stages that are simulated: of two lengths, so that their difference is free of what is before and behind.
FEW, MANY = 4, 10


class Instruction:
    def __init__(self, address, text, control):
        self.address, self.text = address, text
        self.stall, self.written, self.read = control & 15, control >> 5 & 7, control >> 8 & 7
        self.waits = [board for board in range(6) if control >> 11 + board & 1]
        self.name = re.sub(r"^@!?U?P\w+\s+", "", text).split()[0]
        stem = self.name.split(".")[0]
        self.kind = next((kind for kind, names in KINDS if stem in names.split()), "OTHER")
        target = re.search(r"\bBRA\b.* `?\(?0x([0-9a-f]+)", text)
        self.target = int(target.group(1), 16) if target else None
        self.always = stem == "BRA" and not text.startswith("@") and not re.search(r"BRA\S* !?U?P\d", text)
        self.pipe, self.busy = self.where()
        self.wavefronts = 4 if self.kind in ("LDSM", "LDGSTS") or ".128" in self.name else 1

    def where(self):
        if self.kind == "HMMA":
            return "tensor", TENSOR
        if self.kind in ("FFMA", "FADD"):
            return "float", HALF_RATE
        if self.kind == "IMAD":
            return "multiply", HALF_RATE
        if self.kind in ("LDSM", "LDS", "STS", "LDGSTS", "GLOBAL", "SHFL"):
            return "memory", HALF_RATE
        if self.kind == "MUFU":
            return "special", SPECIAL
        if self.kind in ("BRANCH", "BAR", "DEPBAR", "LDGDEPBAR"):
            return "control", 1
        if self.name.startswith("U") or self.name in ("R2UR", "S2UR"):
            return "uniform", HALF_RATE
        return "integer", HALF_RATE


def kernels(lines):
    """Instructions of each kernel, in order."""
    found, current, first = {}, None, None
    for line in lines:
        name = re.search(r"Function : (\w+)", line)
        if name:
            current = found.setdefault(name.group(1), [])
            continue
        half = re.match(r"\s+/\*([0-9a-f]{4,8})\*/\s+(.*?)\s*;\s+/\* 0x[0-9a-f]{16} \*/", line)
        if half:
            first = int(half.group(1), 16), half.group(2).strip("{} ")
            continue
        other = re.match(r"\s+/\* 0x([0-9a-f]{16}) \*/", line)
        if other and first and current is not None:
            current.append(Instruction(*first, int(other.group(1), 16) >> 41))
            first = None
    return found


def main_loop(code, steps):
    """What a warp issues in one stage."""
    index = {instruction.address: i for i, instruction in enumerate(code)}
    loops = []
    for i, instruction in enumerate(code):
        to = index.get(instruction.target)
        if to is not None and to < i:
            loops.append((to, i))
    within = lambda loop, *kinds: sum(x.kind in kinds for x in code[loop[0]:loop[1] + 1])
    multiplies = lambda loop: within(loop, *MULTIPLIES)
    stages = [loop for loop in loops if within(loop, "BAR") and within(loop, "LDGSTS") and multiplies(loop)]
    around = lambda loop, other: loop != other and loop[0] <= other[0] and other[1] <= loop[1]
    # blocks that were moved behind the code jump back, too, but around whole loops
    first, last = min(loop for loop in stages if not any(around(loop, other) for other in stages))

    # the best path from each instruction to the loop's end: products, copies, and few instructions
    best = {last: ((0, 0, -1), None)}
    for i in range(last - 1, first - 1, -1):
        here, ways = code[i], []
        if not here.always:
            ways.append(i + 1)
        to = index.get(here.target)
        if to is not None and i < to <= last:
            ways.append(to)
        ways = [(best[way][0], way) for way in ways if way in best]
        if ways:
            (products, copies, length), way = max(ways)
            copy = here.kind == "LDSM" or here.kind == "LDGSTS" and ".128" in here.name
            best[i] = ((products + (here.kind in MULTIPLIES), copies + copy, length - 1), way)
    path, i = [], first
    while i is not None:
        path.append(i)
        i = best[i][1]
    for inner in loops:
        if around((first, last), inner) and multiplies(inner):
            start, end = path.index(inner[0]), path.index(inner[1]) + 1
            path[start:end] = path[start:end] * steps
            break
    return [code[i] for i in path]


def cycles(stage, stages, warps, blocks):
    """How long so many stages take, of so many blocks of so many warps."""
    count = len(stage) * stages
    total = warps * blocks
    at, ready = [0] * total, [0] * total
    boards = [[0.0] * 6 for _ in range(total)]
    waiting, arrived = [False] * total, [0] * blocks
    # warp w of a block is scheduler w mod 4's
    mine = [[w for w in range(total) if w % SCHEDULERS == s] for s in range(SCHEDULERS)]
    last = [0] * SCHEDULERS
    free = [collections.defaultdict(float) for _ in range(SCHEDULERS)]
    shared, now, left = 0.0, 0, total
    while left:
        for s in range(SCHEDULERS):
            pipes, own = free[s], mine[s]
            for turn in range(len(own)):
                w = own[(last[s] + turn) % len(own)]
                if at[w] >= count or waiting[w] or ready[w] > now:
                    continue
                x = stage[at[w] % len(stage)]
                if any(boards[w][board] > now for board in x.waits):
                    continue
                if x.pipe == "float":
                    pipe = "float" if pipes["float"] <= now else "multiply"
                else:
                    pipe = x.pipe
                # the tensor cores' next instruction waits beside them
                if pipes[pipe] > now + (0.999 if pipe == "tensor" else 0):
                    continue
                last[s] = (last[s] + turn) % len(own)
                pipes[pipe] = (max(pipes[pipe], now - 1) if pipe == "tensor" else now) + x.busy
                if pipe == "memory":
                    shared = max(shared, now) + x.wavefronts
                    done = shared + SHARED_LATENCY
                else:
                    done = now + (SPECIAL_LATENCY if pipe == "special" else LATENCY)
                if x.written < 6:
                    boards[w][x.written] = max(boards[w][x.written], done)
                if x.read < 6:
                    taken = (shared if pipe == "memory" else now) + 6
                    boards[w][x.read] = max(boards[w][x.read], taken)
                ready[w] = now + max(1, x.stall)
                if x.kind == "BAR":
                    block = w // warps
                    waiting[w] = True
                    arrived[block] += 1
                    if arrived[block] == warps:
                        arrived[block] = 0
                        for other in range(block * warps, (block + 1) * warps):
                            waiting[other] = False
                            ready[other] = max(ready[other], now + BARRIER)
                at[w] += 1
                left -= at[w] == count
                break
        now += 1
        if now > 1_000_000:
            sys.exit("the loop does not end")
    return now


def main():
    code = kernels(sys.stdin)
    for argument in sys.argv[1:]:
        name, steps, blocks = argument.split(":")
        stage = main_loop(code[name], int(steps))
        warps = next(warps for tile, warps in WARPS.items() if tile in name)
        few, many = (cycles(stage, n, warps, int(blocks)) for n in (FEW, MANY))
        counts = collections.Counter(x.kind for x in stage)
        counts = " ".join(f"{kind}={n}" for kind, n in sorted(counts.items()))
        print(name, blocks, round((many - few) / (MANY - FEW)), len(stage), counts)


if __name__ == "__main__":
    main()
