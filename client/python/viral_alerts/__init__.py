"""The client of Viral Alerts for bots and servers: every alert of a region once and in order."""

from .client import ViralAlerts, alerts
from .events import Alert, Event, Failure, Gap, Position, Removed, Subscribed, ViralAlertsError

__all__ = ["Alert", "Event", "Failure", "Gap", "Position", "Removed", "Subscribed", "ViralAlerts", "ViralAlertsError"]
__all__ += ["alerts"]
