"""Whether the value of a map has only grown: fields added at its end, everything else where it was."""

from netbpf.bpf.btf.compare import difference
from netbpf.bpf.btf.shape import Form, Shape
from netbpf.bpf.btf.types import Btf
from netbpf.text import escape


def not_grown(old_btf: Btf, old: Shape, new_btf: Btf, new: Shape, name: str) -> str | None:
    """What forbids to take old values for the beginning of new ones, or None."""
    found = difference(old_btf, old.type_id, new_btf, new.type_id, name=name)
    if found is None:
        return None
    old, new = old.plain or old, new.plain or new
    label = escape(name)
    if old.form is not new.form or old.size > new.size:
        return found
    if old.form is Form.ARRAY and old.element and new.element and old.count <= new.count:
        return difference(
            old_btf, old.element.type_id, new_btf, new.element.type_id, name=f"{name}[]"
        )
    if old.form is not Form.STRUCT or not old.fields:
        return found
    last = max(old.fields.values(), key=lambda one: one.bit_offset + (one.bits or one.size * 8))
    end = last.bit_offset + (last.bits or last.size * 8)
    for key, one in old.fields.items():
        part = f"{name}.{key}" if name else key
        other = new.fields.get(key)
        if other is None:
            return f"{escape(part)} is gone"
        if (one.bit_offset, one.bits) != (other.bit_offset, other.bits):
            return f"{escape(part)} was at byte {one.offset}, is at byte {other.offset}"
        alone = all(
            each is one or each.bit_offset + (each.bits or each.size * 8) <= one.bit_offset
            for each in old.fields.values()
        )
        if one is last and alone and not one.bits:
            inner = not_grown(old_btf, one.shape, new_btf, other.shape, part)
            end = one.bit_offset + one.size * 8
        else:
            inner = difference(old_btf, one.shape.type_id, new_btf, other.shape.type_id, name=part)
        if inner:
            return inner
    for key, other in new.fields.items():
        if key not in old.fields and other.bit_offset < end:
            return (
                f"{escape(f'{name}.{key}' if name else key)} is new, and not at the end of {label}"
            )
    return None
