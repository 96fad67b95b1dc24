"""OpenAI's chat completions as Alibaba's Model Studio speaks them: one code means something else there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cottonpalm.providers.openai import Chat

if TYPE_CHECKING:
    from cottonpalm.providers.answer import Complaint
    from cottonpalm.types import Kind


class QwenChat(Chat):
    """`/compatible-mode/v1/chat/completions`."""

    def kind(self, complaint: Complaint) -> Kind | None:
        """By OpenAI's codes, but for `insufficient_quota`.

        It is the limit of tokens per minute there, which passes, unless it is of free tokens that are used up.
        """
        of_a_minute = complaint.status == 429 and "Free allocated quota" not in complaint.message
        if of_a_minute and "insufficient_quota" in complaint.codes:
            return None
        return super().kind(complaint)
