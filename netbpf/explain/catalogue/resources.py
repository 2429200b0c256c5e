"""Rejections about what must be given back: references, locks, timers, dynptrs."""

import re

from netbpf.explain import story, values
from netbpf.explain.catalogue.entry import Case, Entry, Facts

# What takes, and what gives it back.
_BACK = (
    (r"bpf_ringbuf_reserve_dynptr", "bpf_ringbuf_submit_dynptr() or bpf_ringbuf_discard_dynptr()"),
    (r"bpf_ringbuf_reserve", "bpf_ringbuf_submit() or bpf_ringbuf_discard()"),
    (r"bpf_(sk|skc)_lookup_\w+|bpf_tcp_gen\w+", "bpf_sk_release()"),
    (r"bpf_iter_(\w+)_new", r"bpf_iter_\1_destroy()"),
    (r"bpf_(obj|percpu_obj)_new\w*", r"bpf_\1_drop()"),
    (r"bpf_(\w+?)_(acquire|from_\w+|lookup|alloc)", r"bpf_\1_release()"),
)
_LEAK = r"Unreleased reference id=\d+ alloc_insn=(?P<insn>\d+)"


def gives_back(helper: str) -> str:
    """What returns the thing that a helper gave, in words."""
    for pattern, back in _BACK:
        if found := re.fullmatch(pattern, helper):
            return found.expand(back)
    return "the function that releases it"


def _leak(case: Case, facts: Facts) -> Facts | None:
    taker = case.log.find(int(facts["insn"]))
    helper = taker.helper if taker else ""
    left = {"left": str(case.step.insn)} if case.step else {}
    jump = "tail_call would" in case.words
    return left | {
        "taker": f"{helper}()" if helper else f"instruction {facts['insn']}",
        "back": gives_back(helper),
        "how": "jumps to another program" if jump else "ends",
    }


def _tail_call(case: Case, facts: Facts) -> Facts:
    if not facts["taken"]:
        return {"taker": "a helper", "back": "its release"}
    found = case.log.find(int(facts["taken"]))
    return {"taker": f"{found.helper}()" if found and found.helper else "a helper",
            "back": gives_back(found.helper if found else "")}  # fmt: skip


def _released(case: Case, facts: Facts) -> Facts | None:
    """A register that held a reference until something released it."""
    found = case.origins(int(facts["reg"]))
    if not found:
        return None
    base = found[-1]
    kind = values.parts(base.value)[0].removesuffix("_or_null")
    if "ref_obj_id" not in base.value and kind not in ("ringbuf_mem", "alloc_mem"):
        return None
    at = story.last_call(case.log, base.position, case.position, story.RELEASES)
    if at is None:
        return None
    step = case.log.steps[at]
    return {
        "release": step.helper,
        "then": str(step.insn),
        "then_what": f"{step.helper}() gives it back",
    }


def _locker(pattern: str) -> str:
    return rf"cannot be used inside (?P<region>{pattern})-ed region|(?P<old>{pattern}).* is missing"


def _kept(case: Case, facts: Facts) -> Facts | None:
    """Where the lock was taken that the program still holds."""
    name = facts["region"] or facts["old"]
    at = story.last_call(case.log, 0, case.position, re.compile(re.escape(name)))
    taken = {"insn": str(case.log.steps[at].insn)} if at is not None else {}
    left = {"left": str(case.step.insn)} if case.step and taken else {}
    unlock = (
        "bpf_preempt_enable"
        if "preempt" in name
        else name.replace("_lock", "_unlock").replace("irq_save", "irq_restore")
    )
    what = (
        "exits"
        if "BPF_EXIT" in case.words or facts["old"]
        else "calls a function that may not be called there"
    )
    return taken | left | {"lock": name, "unlock": unlock, "what": what}


def _while_locked(case: Case, _: Facts) -> Facts | None:
    return {"callee": f"{case.helper}()"} if case.helper else {"callee": "a function"}


def _lock_twice(case: Case, _: Facts) -> Facts | None:
    return {} if case.helper == "bpf_spin_lock" else None


ENTRIES = (
    Entry(
        id="tail-call-reference",
        title="A tail call while something is still held",
        words="tail_call would lead to reference leak",
        pattern=r"Unreleased reference id=\d+ alloc_insn=(?P<taken>\d+)(?=[\s\S]*tail_call would lead)"
        r"|tail_call would lead to reference leak",
        reason="the program makes a tail call while it still holds what {taker} gave it",
        why="A tail call does not come back, so nobody could release what the program holds.",
        advice="release it before the tail call, with {back}",
        code="bpf_sk_release(sk);\nbpf_tail_call(ctx, &jumps, 0);",
        facts=_tail_call,
    ),
    Entry(
        id="reference-leak",
        title="Something is taken and not given back on every path",
        words="Unreleased reference id=2 alloc_insn=4",
        pattern=_LEAK,
        reason="what {taker} gave is not given back on every path: the program {how} with it",
        why="Sockets, ring buffer records, iterators and kernel objects are counted. Each must be returned "
        "exactly once on every "
        "path to the end, also where something fails in between, and before an exception is thrown.",
        advice="give it back with {back} before each return",
        code="if (failed) {\n\tbpf_ringbuf_discard(event, 0);\n\treturn XDP_PASS;\n}\nbpf_ringbuf_submit(event, 0);",
        facts=_leak,
    ),
    Entry(
        id="released-twice",
        title="A reference is released twice",
        words="R1 type=scalar expected=sock_common, sock, tcp_sock, xdp_sock",
        pattern=r"R(?P<reg>\d+) type=(?:scalar|inv) expected=",
        reason="{helper}() gets something that {release}() already released",
        why="After its release a pointer is a mere number.",
        advice="release once on each path, and leave right after it",
        code="bpf_sk_release(sk);\nreturn TC_ACT_OK;",
        facts=_released,
    ),
    Entry(
        id="used-after-release",
        title="Memory is used after it was given back",
        words="R6 invalid mem access 'scalar'",
        pattern=r"R(?P<reg>\d+) invalid mem access '(?:scalar|inv)'",
        reason="the program {access} memory that it gave back with {release}() before",
        why="What is submitted, discarded or released belongs to others.",
        advice="copy what is needed before giving it back",
        code="value = event->value;\nbpf_ringbuf_submit(event, 0);\nreturn value;",
        facts=_released,
    ),
    Entry(
        id="release-not-acquired",
        title="Something is released that was not taken",
        words="R1 must be referenced when passed to release function",
        pattern=r"R(?P<reg>\d+) must be referenced|release (?:kernel )?(?:function|helper) \w+ expects refcounted|"
        r"release helper .*expected referenced",
        reason="{helper}() is given something the program does not own, so it must not release it",
        why="Only what a lookup or another acquiring call returned may be released. ctx->sk belongs to the packet.",
        advice="release only what was looked up",
        code="sk = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), -1, 0);\nif (sk)\n\tbpf_sk_release(sk);",
    ),
    Entry(
        id="lock-kept",
        title="A spin lock is not unlocked on every path",
        words="BPF_EXIT instruction in main prog cannot be used inside bpf_spin_lock-ed region",
        pattern=_locker(r"bpf_(?:res_)?spin_lock(?:_irqsave)?") + r"|(?P<unlock_missing>bpf_spin_unlock is missing)",
        reason="the program {what} while it holds the lock it took with {lock}()",
        why="Another CPU would wait for ever. Every path from the lock must come by the unlock, within the same "
        "function.",
        advice="call {unlock}() before each return, and keep the locked part short",
        code="bpf_spin_lock(&value->lock);\nvalue->count++;\nbpf_spin_unlock(&value->lock);",
        facts=lambda case, facts: _kept(case, dict(facts) | {"old": facts["old"] or "bpf_spin_lock"}
                                        if facts["unlock_missing"] else facts),
    ),
    Entry(
        id="rcu-kept",
        title="An RCU or no-preemption section is not closed",
        words="BPF_EXIT instruction in main prog cannot be used inside bpf_rcu_read_lock-ed region",
        pattern=_locker(r"bpf_rcu_read_lock|bpf_preempt_disable|bpf_local_irq_save"),
        reason="the program {what} within the section it opened with {lock}()",
        why="Such sections must be closed on every path by the program that opened them.",
        advice="call {unlock}() before each return",
        code="bpf_rcu_read_lock();\n...\nbpf_rcu_read_unlock();",
        facts=_kept,
    ),
    Entry(
        id="lock-twice",
        title="A second lock is taken",
        words="function calls are not allowed while holding a lock",
        pattern=r"function calls are not allowed while holding a lock|Locking two bpf_spin_locks are not allowed",
        reason="the program calls bpf_spin_lock() while it already holds a lock",
        why="A program may hold one bpf_spin_lock at a time: two could make two CPUs wait for each other.",
        advice="unlock the first before taking the second",
        code="bpf_spin_unlock(&one->lock);\nbpf_spin_lock(&other->lock);",
        facts=_lock_twice,
    ),
    Entry(
        id="lock-call",
        title="A function is called while a lock is held",
        words="function calls are not allowed while holding a lock",
        pattern=r"(?:helper|function) calls? (?:is|are) not allowed while holding a lock",
        reason="the program calls {callee} while it holds a spin lock; only the unlock may be called there",
        why="The locked part must be short, so helpers and functions are forbidden within.",
        advice="call it before taking the lock and keep the result",
        code="now = bpf_ktime_get_ns();\nbpf_spin_lock(&value->lock);\nvalue->time = "
        "now;\nbpf_spin_unlock(&value->lock);",
        facts=_while_locked,
    ),
    Entry(
        id="unlock-without-lock",
        title="An unlock without its lock",
        words="bpf_spin_unlock without taking a lock",
        pattern=r"bpf_(?:res_)?spin_unlock without taking a lock|bpf_spin_unlock of different lock|"
        r"bpf_rcu_read_unlock without|unmatched rcu read unlock|unmatched attempt to enable preemption",
        reason="{helper}() is called without holding that lock",
        why="On the path the verifier followed the lock was not taken, or it was another one.",
        advice="take the lock on the same path, with the same pointer",
        code="bpf_spin_lock(&value->lock);\n...\nbpf_spin_unlock(&value->lock);",
    ),
    Entry(
        id="lock-missing",
        title="The map's value has no spin lock",
        words="map 'values' has no valid bpf_spin_lock",
        pattern=r"map '(?P<map>[^']*)' (?:has no valid|doesn't have|has invalid|has more than one '?struct|is "
        r"missing '?struct) ?"
        r"'?bpf_spin_lock|bpf_spin_lock has to be at|off \d+ doesn't point to '?struct bpf_spin_lock",
        reason="{helper}() needs a struct bpf_spin_lock in the value of {whose}, and finds none there",
        why="The kernel learns from the object's BTF where in a value the lock is. Value types given by size "
        "alone, and objects "
        "without BTF, have no locks.",
        advice="declare the value's type with the lock in it, and pass its address",
        code="struct value {\n\tstruct bpf_spin_lock lock;\n\t__u64 count;\n};\n\n__type(value, struct value);",
        facts=lambda _, facts: {"whose": f"map {facts['map']}" if facts["map"] else "the map"},
    ),
    Entry(
        id="timer-misuse",
        title="The map's value has no timer",
        words="map 'values' has no valid bpf_timer",
        pattern=r"map '(?P<map>[^']*)' (?:has no valid|doesn't have|is missing) ?'?(?:struct "
        r")?(?P<thing>bpf_timer|bpf_wq|bpf_task_work)",
        reason="{helper}() needs a struct {thing} in the value of map {map}, and finds none there",
        why="The kernel learns from the object's BTF where in a value the timer is.",
        advice="declare the value's type with a struct {thing} in it, and pass its address",
        code="struct value {\n\tstruct bpf_timer timer;\n};\n\n__type(value, struct value);",
    ),
    Entry(
        id="timer-map",
        title="A timer is initialised with another map",
        words="timer pointer in R1 map_uid=0 doesn't match map pointer in R2 map_uid=0",
        pattern=r"(?:timer|workqueue|bpf_\w+) pointer in R1 map_uid=\d+ doesn't match map pointer in R2",
        reason="{helper}() is told another map than the one that holds the timer",
        why="The timer keeps its own map alive, so it has to know the right one.",
        advice="pass the map that the value was looked up in",
        code="value = bpf_map_lookup_elem(&timers, &key);\nif (value)\n\tbpf_timer_init(&value->timer, &timers, "
        "CLOCK_MONOTONIC);",
    ),
    Entry(
        id="lock-direct-access",
        title="A lock or timer in a map value is read or written",
        words="bpf_spin_lock cannot be accessed directly by load/store",
        pattern=r"(?P<thing>bpf_spin_lock|bpf_res_spin_lock|bpf_timer|bpf_wq|bpf_\w+|kptr) cannot be accessed "
        r"directly by",
        reason="the program {access} a {thing} directly; only its helpers may touch it",
        why="Locks, timers and kernel pointers inside values belong to the kernel. Copying or clearing the whole "
        "value touches "
        "them too.",
        advice="leave that member out: access the others one by one",
        code="value->count = 0;  /* instead of: *value = (struct value){}; */",
    ),
    Entry(
        id="dynptr-overwritten",
        title="A dynptr on the stack is overwritten",
        words="cannot overwrite referenced dynptr",
        pattern=r"cannot overwrite referenced dynptr|cannot pass in dynptr at an offset|potential write to dynptr",
        reason="the program writes over a dynptr that is in use",
        why="A dynptr is opaque, and one from a ring buffer must be given back through it.",
        advice="leave the variable alone until bpf_ringbuf_submit_dynptr() or bpf_ringbuf_discard_dynptr()",
        code="bpf_ringbuf_reserve_dynptr(&ring, size, 0, &pointer);\nbpf_dynptr_write(&pointer, 0, &value, "
        "sizeof(value), 0);\n"
        "bpf_ringbuf_submit_dynptr(&pointer, 0);",
    ),
    Entry(
        id="dynptr-misuse",
        title="A dynptr is used before it is made",
        words="Expected an initialized dynptr as arg #2",
        pattern=r"Expected an? (?P<state>un)?initialized (?P<thing>dynptr|iter\w*) as arg #(?P<arg>\d+)|"
        r"expected an? (?P<state_too>un)?initialized (?P<thing_too>\w+) as arg #?\d+",
        reason="{helper}() is given a {what}",
        why="A dynptr or iterator is made by one call, used by others and ended by a last one, in this order.",
        advice="make it first with the function meant for it, once",
        code="struct bpf_dynptr pointer;\n\nbpf_dynptr_from_mem(bytes, sizeof(bytes), 0, &pointer);\n"
        "bpf_dynptr_read(&value, sizeof(value), &pointer, 0, 0);",
        facts=lambda _, facts: {
            "what": f"{facts['thing'] or facts['thing_too']} that is "
            + ("already in use" if facts["state"] or facts["state_too"] else "not initialised")
        },
    ),
)  # fmt: skip
