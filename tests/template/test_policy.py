"""The project's template keeps the rules of policy.py, and each rule catches a planted violation."""

import copy
import unittest

import metric_math
import policy

# Actions in the statement of connect's role about the subscriptions table.
CONNECT_ACTIONS = ", ".join(
    f"dynamodb:{action}" for action in ("BatchWriteItem", "DeleteItem", "GetItem", "PutItem", "Query", "UpdateItem")
)


class Rules(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.template = policy.transformed()

    def findings(self, template):
        return policy.findings(template, policy.allowed_wildcards(), policy.runbook_sections())

    def planted(self, plant):
        """Returns the findings after `plant`, which gets the properties of all resources, and the resources."""
        template = copy.deepcopy(self.template)
        resources = template["Resources"]
        plant({name: resource["Properties"] for name, resource in resources.items()}, resources)
        return self.findings(template)

    def assert_caught(self, plant, *expected):
        self.assertCountEqual(self.planted(plant), expected)

    def test_the_template_keeps_all_rules(self):
        self.assertEqual(self.findings(self.template), [])

    def test_a_wildcard_without_a_reason_is_caught(self):
        def statement(properties):
            return properties["ConnectFunctionRole"]["Policies"][0]["PolicyDocument"]["Statement"][2]

        no_reason = "wildcards.json has no reason for"
        for part, value, text in [
            ("Action", "dynamodb:*", "dynamodb:*"),
            ("Action", ["dynamodb:PutItem", "dynamodb:Batch*"], "dynamodb:Batch*"),
            ("Resource", "*", f"{CONNECT_ACTIONS} on *"),
            ("Resource", {"Fn::Sub": "${SubscriptionsTable.Arn}/index/*"}, "${SubscriptionsTable.Arn}/index/*"),
            ("Resource", {"Fn::If": ["Some", {"Fn::GetAtt": ["AlertsTable", "Arn"]}, "arn:*"]}, "arn:*"),
            ("Resource", {"Fn::Join": ["", ["arn:", "*"]]}, '{"Fn::Join": ["", ["arn:", "*"]]}'),
        ]:
            with self.subTest(text):
                self.assert_caught(
                    lambda p, _: statement(p).update({part: value}), f"ConnectFunctionRole: {no_reason} {text}"
                )
        administrator = "arn:aws:iam::aws:policy/AdministratorAccess"
        self.assert_caught(
            lambda p, _: p["ConnectFunctionRole"].update(ManagedPolicyArns=[administrator]),
            f"ConnectFunctionRole: {no_reason} AdministratorAccess",
            "ConnectFunction: can write to other log groups than its own",
        )
        for name in ("DeliverAgainPolicy", "PublisherPolicy"):
            self.assert_caught(
                lambda p, _: p[name]["PolicyDocument"]["Statement"][-1].update(Resource="arn:*"),
                f"{name}: {no_reason} arn:*",
            )

    def test_a_reason_for_an_unused_wildcard_is_caught(self):
        allowed = policy.allowed_wildcards() | {("ConnectFunctionRole", "s3:*")}
        found = policy.findings(self.template, allowed, policy.runbook_sections())
        self.assertEqual(found, ["ConnectFunctionRole: wildcards.json allows s3:*, which the template does not use"])

    def test_a_statement_that_allows_everything_else_is_caught(self):
        def plant(properties, _):
            statement = properties["ConnectFunctionRole"]["Policies"][0]["PolicyDocument"]["Statement"][2]
            statement["NotAction"] = statement.pop("Action")

        self.assert_caught(plant, "ConnectFunctionRole: NotAction and NotResource allow everything else")

    def test_a_policy_outside_of_a_role_is_caught(self):
        self.assert_caught(
            lambda _, resources: resources.update(Extra={"Type": "AWS::IAM::Policy", "Properties": {}}),
            "Extra: move this policy into the role of its function",
        )
        self.assert_caught(
            lambda p, _: p["PublisherPolicy"].update(Roles=[{"Ref": "ConnectFunctionRole"}]),
            "PublisherPolicy: a managed policy is for publishers, so it must not name groups, roles or users",
        )

    def test_a_function_that_can_write_to_other_log_groups_is_caught(self):
        other_logs = "ConnectFunction: can write to other log groups than its own"

        def statements(properties):
            return properties["ConnectFunctionRole"]["Policies"][0]["PolicyDocument"]["Statement"]

        publish_logs = {"Fn::GetAtt": ["PublishLogs", "Arn"]}
        for plant in [
            lambda p, _: statements(p)[0]["Action"].append("logs:CreateLogGroup"),
            lambda p, _: statements(p)[0]["Action"].append("logs:DeleteLogGroup"),
            lambda p, _: statements(p)[0].update(Resource=publish_logs),
            lambda p, _: statements(p).append(dict(statements(p)[0])),
            lambda p, _: statements(p).pop(0),
        ]:
            self.assert_caught(plant, other_logs)
        self.assert_caught(
            lambda p, _: p["AlertsFunction"].update(Role={"Fn::GetAtt": ["ConnectFunctionRole", "Arn"]}),
            "AlertsFunction: can write to other log groups than its own",
            "ConnectFunctionRole: several functions have this role: AlertsFunction, ConnectFunction",
        )

    def test_a_function_without_a_log_group_is_caught(self):
        no_group = "ConnectFunction: no log group with RetentionInDays"
        no_filter = "ConnectFunction: no metric filter on its log group"
        other_logs = "ConnectFunction: can write to other log groups than its own"
        for plant, *expected in [
            (lambda p, _: p["ConnectFunction"]["LoggingConfig"].pop("LogGroup"), no_group, no_filter, other_logs),
            (
                lambda p, _: p["ConnectFunction"]["LoggingConfig"].update(LogGroup="elsewhere"),
                no_group,
                no_filter,
                other_logs,
            ),
            (lambda p, _: p["ConnectLogs"].pop("RetentionInDays"), no_group),
            (lambda _, resources: resources.pop("ConnectErrorLines"), no_filter),
        ]:
            self.assert_caught(plant, *expected)

    def test_a_function_without_an_alarm_is_caught(self):
        self.assert_caught(
            lambda _, resources: resources.pop("ConnectErrorsAlarm"), "ConnectFunction: no alarm on its metric Errors"
        )
        self.assert_caught(
            lambda p, _: remove_query(p["ThrottledAlarm"], "connect"),
            "ConnectFunction: no alarm on its metric Throttles",
        )

    def test_the_alarm_of_the_canary_rings_when_its_metric_is_missing(self):
        alarm = self.template["Resources"]["SilenceAlarm"]["Properties"]
        self.assertEqual(
            (alarm["ComparisonOperator"], alarm["Threshold"], alarm["TreatMissingData"]),
            ("LessThanThreshold", 1, "breaching"),
        )
        # Without that, the function needs the alarms of any other function.
        self.assert_caught(
            lambda p, _: p["SilenceAlarm"].update(TreatMissingData="notBreaching"),
            "CanaryFunction: no alarm on its metric Errors",
            "CanaryFunction: no alarm on its metric Throttles",
        )

    def test_a_delivery_metric_without_an_alarm_is_caught(self):
        unwatched = "DeliverFunction: no alarm on its metric Undelivered"
        self.assert_caught(lambda _, resources: resources.pop("UndeliveredPushesAlarm"), unwatched)

        def plant(properties, _):
            metric = query(properties["UndeliveredPushesAlarm"], "undelivered")["MetricStat"]["Metric"]
            metric["Dimensions"][0]["Value"]["Ref"] = "PublishFunction"

        self.assert_caught(plant, unwatched)

    def test_a_function_that_is_not_on_the_dashboard_is_caught(self):
        def plant(properties, _):
            body = properties["Dashboard"]["DashboardBody"]
            body["Fn::Sub"] = body["Fn::Sub"].replace("${ConnectFunction}", "")

        self.assert_caught(plant, "ConnectFunction: not on the dashboard")

    def test_deliver_alone_may_publish_on_the_event_api(self):
        resources = self.template["Resources"]
        publishers = {
            name
            for kind, of_kind in policy.POLICIES.items()
            for name, properties in policy.of_type(resources, kind).items()
            for statement in policy.statements(of_kind(properties))
            for action in policy.as_list(statement["Action"])
            if action.startswith("appsync:")
        }
        self.assertEqual(publishers, {"DeliverFunctionRole"})
        modes = resources["EventApi"]["Properties"]["EventConfig"]
        self.assertEqual(modes["DefaultPublishAuthModes"], [{"AuthType": "AWS_IAM"}])
        self.assertEqual(modes["ConnectionAuthModes"], [{"AuthType": "AWS_LAMBDA"}])
        self.assertEqual(modes["DefaultSubscribeAuthModes"], [{"AuthType": "AWS_LAMBDA"}])
        self.assertFalse(resources["EventChannels"]["Properties"].keys() & {"PublishAuthModes", "SubscribeAuthModes"})

    def test_clients_can_connect_over_ipv6(self):
        self.assertEqual(self.template["Resources"]["WebSocketApi"]["Properties"]["IpAddressType"], "dualstack")

    def test_a_permission_without_a_source_is_caught(self):
        for name in ("ConnectPermission", "PublishFunctionScoredPermission"):
            self.assert_caught(lambda p, _: p[name].pop("SourceArn"), f"{name}: no SourceArn")

    def test_a_table_with_a_billed_key_or_without_a_time_to_live_is_caught(self):
        self.assert_caught(
            lambda p, _: p["AlertsTable"].update(SSESpecification={"SSEEnabled": True}),
            "AlertsTable: SSESpecification names a key whose use is billed",
        )
        self.assert_caught(
            lambda p, _: p["AlertsTable"]["TimeToLiveSpecification"].update(Enabled=False),
            "AlertsTable: no time to live",
        )

    def test_an_open_route_without_a_throttle_is_caught(self):
        def settings(properties, stage, branch):
            return properties[stage]["RouteSettings"]["Fn::If"][branch]

        open_route = "an open route without a throttle"
        for branch in (1, 2):
            found = self.planted(
                lambda p, _: settings(p, "WebSocketStage", branch)["ping"].pop("ThrottlingBurstLimit")
            )
            self.assertIn(f"PingRoute: {open_route}", found)
        self.assert_caught(
            lambda p, _: p["WebSocketStage"].pop("DefaultRouteSettings"),
            f"PublishRoute: {open_route}",
            f"DefaultRoute: {open_route}",
        )
        for route in ("GET /alerts", "POST /webhook"):
            found = self.planted(lambda p, _: settings(p, "HttpApiApiGatewayDefaultStage", 2).pop(route))
            self.assertIn(f"HttpApi: {route} is {open_route}", found)
        self.assert_caught(
            lambda _, resources: resources["WebSocketStage"]["DependsOn"].remove("PingRoute"),
            "WebSocketStage: has settings of ping, but DependsOn does not name PingRoute",
        )

    def test_a_throttle_that_arrives_as_a_string_at_the_defaults_is_caught(self):
        def numbers(properties):
            return properties["WebSocketStage"]["RouteSettings"]["Fn::If"][1]

        differs = "WebSocketStage: the throttles under HasDefaultSocketRates differ from the defaults"
        self.assert_caught(lambda p, _: numbers(p)["ping"].update(ThrottlingRateLimit=251), differs)
        self.assert_caught(
            lambda p, _: numbers(p)["ping"].update(ThrottlingRateLimit={"Ref": "PingRate"}),
            differs,
            "WebSocketStage: a throttle arrives as a string",
        )
        template = copy.deepcopy(self.template)
        template["Parameters"]["PingRate"]["Default"] = 300
        other_condition = "WebSocketStage: HasDefaultSocketRates does not compare parameters with their defaults"
        self.assertEqual(self.findings(template), [other_condition, differs])

    def test_data_without_a_deletion_policy_is_caught(self):
        for name in ("UnpublishedQueue", "AlertsTable", "ConnectLogs"):
            for key in ("DeletionPolicy", "UpdateReplacePolicy"):
                self.assert_caught(lambda _, resources: resources[name].pop(key), f"{name}: no {key}")

    def test_an_environment_without_a_bound_is_caught(self):
        template = copy.deepcopy(self.template)
        template["Parameters"]["TokenIssuer"].pop("MaxLength")
        functions = ("AlertsFunction", "AuthorizeFunction", "CanaryFunction")
        unbounded = "the length of TOKEN_ISSUER has no bound, set MaxLength"
        self.assertCountEqual(self.findings(template), [f"{function}: {unbounded}" for function in functions])
        template = copy.deepcopy(self.template)
        template["Parameters"]["AllowedOrigins"]["MaxLength"] = 4000
        (found,) = self.findings(template)
        self.assertRegex(found, r"^ConnectFunction: its environment can have 4\d+ bytes, Lambda allows 4096$")

    def test_events_of_other_stacks_are_caught(self):
        other = "viral-alerts.scorer"
        self.assert_caught(
            lambda p, _: p["PublishFunctionScored"]["EventPattern"].update(source=[other]),
            "PublishFunctionScored: receives events of other stacks",
        )
        for name in ("ScorerFunctionRole", "PublisherPolicy"):

            def plant(properties, _):
                (policy_of, *_) = properties[name].get("Policies", [properties[name]])
                for statement in policy.statements([policy_of]):
                    if "events:PutEvents" in policy.as_list(statement["Action"]):
                        statement["Condition"]["StringEquals"]["events:source"] = other

            self.assert_caught(plant, f"{name}: can send events of other stacks")
        self.assert_caught(
            lambda p, _: p["ScorerFunction"]["Environment"]["Variables"].update(SCORER_SOURCE=other),
            "ScorerFunction: sends events of other stacks",
        )

    def test_a_failure_without_an_alarm_is_caught(self):
        self.assert_caught(
            lambda p, _: p["RecoverStoppedAlarm"].update(TreatMissingData="notBreaching"),
            "RecoverFunctionEveryMinute: no alarm on missing Invocations of RecoverFunction",
        )
        deliver = "DeliverFunctionEventInvokeConfig: no alarm on AsyncEventsDropped of DeliverFunction"
        publish = "PublishFunctionEventInvokeConfig: no alarm on DestinationDeliveryFailures of PublishFunction"
        for alarm, metric, expected in [
            ("LostEventsAlarm", "delivered", deliver),
            ("LostEventsAlarm", "unpublished", publish),
            ("TablesThrottledAlarm", "alertswrite", "AlertsTable: no alarm on its metric WriteThrottleEvents"),
        ]:
            self.assert_caught(lambda p, _: remove_query(p[alarm], metric), expected)

    def test_arithmetic_without_a_value_for_missing_data_is_caught(self):
        self.assert_caught(
            lambda p, _: query(p["GoneAlarm"], "pushes").update(Expression="FILL(sent, 0) + gone"),
            "GoneAlarm: pushes uses gone without FILL",
        )

    def test_alarms_with_arithmetic_ring_only_for_their_failure(self):
        """Each row has the data of a period. CloudWatch has no data for metrics that are not named."""
        alarms = policy.of_type(self.template["Resources"], "AWS::CloudWatch::Alarm")
        for alarm, data, rings in [
            ("RefusedAlarm", {"refused": 200}, True),
            ("RefusedAlarm", {"refused": 200, "connects": 10_000}, False),
            ("RefusedAlarm", {"refused": 30}, False),
            ("RefusedAlarm", {}, False),
            ("IntegrationAlarm", {"failed": 50}, True),
            ("IntegrationAlarm", {"answered": 50, "messages": 100}, True),
            ("IntegrationAlarm", {"answered": 50, "connects": 900, "disconnects": 900, "messages": 900}, False),
            ("IntegrationAlarm", {"messages": 900}, False),
            ("AuthorizeErrorsAlarm", {"errors": 50, "refused": 50}, False),
            ("AuthorizeErrorsAlarm", {"errors": 50}, True),
            ("AuthorizeErrorsAlarm", {"errors": 60, "refused": 50}, True),
            ("AuthorizeErrorsAlarm", {}, False),
            ("EventsAlarm", {"undelivered": 1}, True),
            ("EventsAlarm", {"dropped": 1}, True),
            ("EventsAlarm", {}, False),
            ("GoneAlarm", {"gone": 200}, True),
            ("GoneAlarm", {"sent": 200}, False),
            ("UndeliveredPushesAlarm", {"undelivered": 200}, True),
            ("UndeliveredPushesAlarm", {"sent": 200, "undelivered": 1}, False),
        ]:
            with self.subTest(alarm, data=data):
                self.assertEqual(metric_math.rings(alarms[alarm], data), rings)

    def test_concurrency_that_is_reserved_by_default_is_caught(self):
        self.assert_caught(
            lambda p, _: p["DeliverFunction"].update(ReservedConcurrentExecutions=100),
            "DeliverFunction: reserves concurrency by default",
        )
        is_zero = {"Fn::Equals": [{"Ref": "ReservedConcurrency"}, 0]}
        self.assertEqual(self.template["Conditions"]["HasReservedConcurrency"], {"Fn::Not": [is_zero]})
        self.assertEqual(self.template["Parameters"]["ReservedConcurrency"]["Default"], 0)

    def test_an_alarm_without_a_runbook_is_caught(self):
        for description, expected in [
            ("Late", f"LagAlarm: its description does not end with a section of {policy.RUNBOOK}"),
            (f"Late. Runbook - {policy.RUNBOOK}#not-there", f"LagAlarm: {policy.RUNBOOK} has no section not-there"),
        ]:
            self.assert_caught(lambda p, _: p["LagAlarm"].update(AlarmDescription=description), expected)


def query(alarm, name):
    """Returns a metric or expression of an alarm by its id."""
    (found,) = (query for query in alarm["Metrics"] if query["Id"] == name)
    return found


def remove_query(alarm, name):
    alarm["Metrics"].remove(query(alarm, name))


class Aliases(unittest.TestCase):
    """No function has an alias: docs/operations.md, "Deployments", has the reasons."""

    def versions(self, change=lambda function: None, **parameters):
        """Returns the names of the versions of connect that SAM would publish if it had an alias."""

        def with_alias(template):
            function = template["Resources"]["ConnectFunction"]
            function["Properties"].update(AutoPublishAlias="live", AutoPublishAliasAllProperties=True)
            change(function["Properties"])

        return list(policy.of_type(policy.transformed(with_alias, **parameters)["Resources"], "AWS::Lambda::Version"))

    def test_a_version_changes_with_the_template_and_not_with_parameters(self):
        """If this fails, SAM publishes a version for changed parameters, and functions can have aliases."""
        (version,) = self.versions()
        self.assertNotEqual(self.versions(lambda function: function.update(Timeout=9)), [version])
        for parameters in [
            {"DefaultRegion": "PL"},
            {"AllowedOrigins": "https://example.com"},
            {"LogLevel": "DEBUG"},
            {"Architecture": "x86_64"},
        ]:
            with self.subTest(parameters):
                self.assertEqual(self.versions(**parameters), [version])

    def test_no_function_has_an_alias(self):
        self.assertEqual(policy.of_type(policy.transformed()["Resources"], "AWS::Lambda::Alias"), {})


if __name__ == "__main__":
    unittest.main()
