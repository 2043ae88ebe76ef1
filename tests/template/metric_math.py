"""Evaluates the metric math of alarms, as far as the template uses it."""

import math
import operator

COMPARISONS = {"GreaterThanThreshold": operator.gt, "LessThanThreshold": operator.lt}


class Number(float):
    """A value of a period. One that is divided by zero is none."""

    def __add__(self, other):
        return Number(float(self) + other)

    def __sub__(self, other):
        return Number(float(self) - other)

    def __truediv__(self, other):
        return Number(float(self) / other if other else math.nan)


FUNCTIONS = {
    "FILL": lambda value, other: Number(other) if value is None else value,
    "IF": lambda condition, one, other: one if condition else other,
}


def rings(alarm, happened):
    """Whether a period in which this happened, by the ids of metrics, is over the threshold. Others have no data, as the value None."""
    queries = {query["Id"]: query for query in alarm["Metrics"]}
    assert happened.keys() <= {name for name, query in queries.items() if "MetricStat" in query}, happened

    def value(name):
        if "MetricStat" in queries[name]:
            return Number(happened[name]) if name in happened else None
        names = compile(queries[name]["Expression"], name, "eval").co_names
        return eval(queries[name]["Expression"], {**FUNCTIONS, **{of: value(of) for of in names if of in queries}})

    (shown,) = (name for name, query in queries.items() if query.get("ReturnData", True))
    return COMPARISONS[alarm["ComparisonOperator"]](value(shown), alarm["Threshold"])
