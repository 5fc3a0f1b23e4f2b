"""What each part of a policy needs consent for, as requests to `dayfly.privacy.consent.decide`."""

from dayfly.engine.policy.model import Policy
from dayfly.engine.tags.tree import Tag
from dayfly.engine.triggers import Trigger
from dayfly.privacy.consent import ConsentRequest

__all__ = ["channel_request", "tag_request", "trigger_request"]


def tag_request(tag: Tag, policy: Policy) -> ConsentRequest:
    """What computing `tag` needs consent for: use inside the controller, across all channels."""
    settings = policy.settings
    return ConsentRequest(
        tag.purpose,
        tag.topic,
        (settings.tag_data_category,),
        settings.controller,
        "*",
        settings.controller_country,
    )


def channel_request(purpose: str, channel: str, policy: Policy) -> ConsentRequest:
    """What keeping an event of a channel with `collect_under` needs consent for."""
    settings = policy.settings
    return ConsentRequest(
        purpose, "*", (settings.tag_data_category,), settings.controller, channel, settings.controller_country
    )


def trigger_request(trigger: Trigger) -> ConsentRequest:
    """What handing the trigger's fields to its audience needs consent for."""
    categories = tuple(sorted({entry.data_category for entry in trigger.fields}))
    return ConsentRequest(
        trigger.purpose, trigger.topic, categories, trigger.audience, "*", trigger.recipient_country
    )
