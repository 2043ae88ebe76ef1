"""Evaluates the metric math of alarms, as far as the template uses it."""

import math
import operator

COMPARISONS = {"GreaterThanThreshold": operator.gt, "LessThanThreshold": operator.lt}


class Number(float):
    """Value of a metric in a period. A division by zero gives NaN, which is over no threshold."""

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


def rings(alarm, data):
    """Returns whether a period with this data, by the ids of metrics, is over the alarm's threshold.

    Other metrics have no data, which is the value None.
    """
    queries = {query["Id"]: query for query in alarm["Metrics"]}
    assert data.keys() <= {name for name, query in queries.items() if "MetricStat" in query}, data

    def value(name):
        if "MetricStat" in queries[name]:
            return Number(data[name]) if name in data else None
        names = compile(queries[name]["Expression"], name, "eval").co_names
        return eval(queries[name]["Expression"], {**FUNCTIONS, **{of: value(of) for of in names if of in queries}})

    (shown,) = (name for name, query in queries.items() if query.get("ReturnData", True))
    return COMPARISONS[alarm["ComparisonOperator"]](value(shown), alarm["Threshold"])
