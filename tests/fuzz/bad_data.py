"""Bytes, values and messages that nobody expects, made from a random generator."""

import random
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

EDGES: Final = (0, 1, 2, 3, 10, 11, 127, 128, 255, 256, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
FLOATS: Final = (0.0, 1.0, -1.0, 0.5, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"))
TEXTS: Final = ("", "fake", "v1:fake", "\x00", "é" * 50, "../../etc/passwd", "x" * 3000)
TOKENS: Final = (
    b"",
    b"\x00",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"[[[[",
    b'"',
    b"\n",
    b"=",
)


def mutated(data: bytes, coins: random.Random) -> bytes:
    """Some bytes of it changed, cut out, doubled, put in or cut off."""
    changed = bytearray(data)
    for _ in range(coins.choice((1, 1, 2, 4, 16))):
        at = coins.randrange(len(changed) + 1)
        until = min(len(changed), at + coins.choice((1, 1, 4, 32)))
        match coins.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << coins.randrange(8)
            case 1:
                del changed[at:until]
            case 2:
                changed[at:at] = changed[at:until]
            case 3:
                changed[at:at] = coins.choice(TOKENS)
            case 4:
                del changed[at:]
            case _:
                changed[at:at] = coins.randbytes(coins.choice((1, 2, 8)))
    return bytes(changed)


def random_bytes(coins: random.Random, most: int = 300) -> bytes:
    """Bytes that mean nothing."""
    return coins.randbytes(coins.randrange(most))


def random_json(coins: random.Random, depth: int = 3) -> Any:
    """A JSON value of any type; NaN, infinities and halves of surrogate pairs included."""
    scalars = (None, True, False, coins.choice(EDGES), -coins.choice(EDGES), coins.choice(FLOATS))
    match coins.randrange(10 if depth else 7):
        case 0 | 1 | 2 | 3:
            return coins.choice(scalars)
        case 4 | 5:
            return coins.choice((*TEXTS, "\ud800", "user", "assistant", "stop"))
        case 6:
            return 10 ** coins.randrange(400)
        case 7 | 8:
            return [random_json(coins, depth - 1) for _ in range(coins.randrange(4))]
        case _:
            names = ("role", "content", "type", "text", "include_usage", "", "é")
            return {name: random_json(coins, depth - 1) for name in coins.sample(names, 2)}


def fill(message: Message, coins: random.Random, density: float = 0.5) -> Message:
    """Set fields of a message to anything that its types allow; returns it."""
    for field in message.DESCRIPTOR.fields:
        if coins.random() > density:
            continue
        if field.is_repeated:
            _fill_list(message, field, coins, density)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            part = getattr(message, field.name)
            part.SetInParent()
            fill(part, coins, density)
        else:
            setattr(message, field.name, _scalar(field, coins))
    return message


def _fill_list(message: Message, field: Any, coins: random.Random, density: float) -> None:
    values = getattr(message, field.name)
    if field.message_type and field.message_type.GetOptions().map_entry:
        values[coins.choice(TEXTS)] = _scalar(field.message_type.fields_by_name["value"], coins)
        return
    for _ in range(coins.choice((0, 1, 2, 5, 40))):
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            fill(values.add(), coins, density)
        else:
            values.append(_scalar(field, coins))


def _scalar(field: Any, coins: random.Random) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return coins.choice(FLOATS)
        case FieldDescriptor.CPPTYPE_BOOL:
            return coins.random() < 0.5
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return random_bytes(coins, 40)
        case FieldDescriptor.CPPTYPE_STRING:
            return coins.choice(TEXTS)
        case FieldDescriptor.CPPTYPE_UINT64:
            return coins.choice((*EDGES, 2**64 - 1))
        case FieldDescriptor.CPPTYPE_ENUM | FieldDescriptor.CPPTYPE_INT32:
            return coins.choice((0, 1, 2, 3, 4, 5, 99, 2**31 - 1))
        case _:
            return coins.choice(EDGES)
