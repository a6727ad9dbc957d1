"""What people are told about a status code: what it means for them, and what they can do. Pure.

Standards: RFC 3463 (the codes). The texts are ours.
"""

from __future__ import annotations

_RETRY = "You can send the message again later, or try to reach the recipient in another way."

# The longest key that the status (without its class) begins with counts.
_ADVICE = {
    "1.1": "There is no such address. Please check it for typing mistakes, above all the part before the @.",
    "1.2": "There is no such domain. Please check the part of the address after the @.",
    "1.3": "The address is not written as an address should be. Please check it for typing mistakes.",
    "1.6": "The recipient has moved and left no new address here.",
    "1.10": "This domain receives no mail at all. Please check the part of the address after the @.",
    "1.7": "The recipient's server does not accept your own address. Please show this report to your administrator.",
    "1.8": "The recipient's server does not accept your own address. Please show this report to your administrator.",
    "1": "The recipient's server does not accept this address. Please check it for typing mistakes.",
    "2.1": "The recipient's mailbox takes no mail at present. " + _RETRY,
    "2.2": "The recipient's mailbox is full. " + _RETRY,
    "2.3": "The message is too large for the recipient's mailbox. Please send less, or send a link instead.",
    "2": "The recipient's mailbox cannot take the message. " + _RETRY,
    "3.4": "The message is too large for the recipient's server. Please send less, or send a link instead.",
    "3": "The recipient's server has a problem. " + _RETRY,
    "4.6": "The recipient's server sends mail in circles. Only its administrator can mend that.",
    "4.7": "It was tried again and again without success, and is given up now. " + _RETRY,
    "4": "The recipient's server cannot be reached. Please check the part of the address after the @. " + _RETRY,
    "6.7": "The recipient's server does not support addresses with special characters. Please use another address.",
    "6": "The recipient's server cannot take a message of this kind. Please send it in another form.",
    "7": "The recipient's server refused the message by its rules. The reason that it gave may help: please show this"
    " report to your administrator, or reach the recipient in another way.",
}
_OTHERWISE = "The recipient's server refused the message. The reason that it gave may help. " + _RETRY


def advice(status: str) -> str:
    """For a failure with this status, such as 5.1.1."""
    _, _, detail = status.partition(".")
    return _ADVICE.get(detail) or _ADVICE.get(detail.partition(".")[0]) or _OTHERWISE
