"""The project's template keeps the rules, and each rule catches a fault that is planted."""

import copy
import unittest

import metric_math
import policy

# Of the statement in connect's policy about the subscriptions table.
CONNECT_ACTIONS = ", ".join(
    f"dynamodb:{action}" for action in ("BatchWriteItem", "DeleteItem", "GetItem", "PutItem", "Query", "UpdateItem")
)


class Template(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.template = policy.transformed()

    def findings(self, template):
        return policy.findings(template, policy.allowed_wildcards(), policy.runbook_sections())

    def assertCaught(self, plant, *expected):
        template = copy.deepcopy(self.template)
        plant({name: resource["Properties"] for name, resource in template["Resources"].items()}, template["Resources"])
        self.assertCountEqual(self.findings(template), expected)

    def test_the_template_keeps_all_rules(self):
        self.assertEqual(self.findings(self.template), [])

    def test_a_wildcard_without_a_reason_is_caught(self):
        def statement(properties):
            return properties["ConnectFunctionRole"]["Policies"][0]["PolicyDocument"]["Statement"][2]

        reasonless = "is a wildcard without a reason in wildcards.json"
        for part, value, text in [
            ("Action", "dynamodb:*", "dynamodb:*"),
            ("Action", ["dynamodb:PutItem", "dynamodb:Batch*"], "dynamodb:Batch*"),
            ("Resource", "*", f"{CONNECT_ACTIONS} on *"),
            ("Resource", {"Fn::Sub": "${SubscriptionsTable.Arn}/index/*"}, "${SubscriptionsTable.Arn}/index/*"),
            ("Resource", {"Fn::If": ["Some", {"Fn::GetAtt": ["AlertsTable", "Arn"]}, "arn:*"]}, "arn:*"),
            ("Resource", {"Fn::Join": ["", ["arn:", "*"]]}, '{"Fn::Join": ["", ["arn:", "*"]]}'),
        ]:
            with self.subTest(text):
                self.assertCaught(lambda p, _: statement(p).update({part: value}), f"ConnectFunctionRole: {text} {reasonless}")
        self.assertCaught(
            lambda p, _: p["ConnectFunctionRole"].update(ManagedPolicyArns=["arn:aws:iam::aws:policy/AdministratorAccess"]),
            f"ConnectFunctionRole: AdministratorAccess {reasonless}",
            "ConnectFunction: may write other logs than its own",
        )
        for name in ("DeliverAgainPolicy", "PublisherPolicy"):
            self.assertCaught(
                lambda p, _: p[name]["PolicyDocument"]["Statement"][-1].update(Resource="arn:*"), f"{name}: arn:* {reasonless}"
            )

    def test_a_function_that_may_write_other_logs_is_caught(self):
        foreign = "ConnectFunction: may write other logs than its own"

        def statements(properties):
            return properties["ConnectFunctionRole"]["Policies"][0]["PolicyDocument"]["Statement"]

        for action in ("logs:CreateLogGroup", "logs:DeleteLogGroup"):
            self.assertCaught(lambda p, _: statements(p)[0]["Action"].append(action), foreign)
        self.assertCaught(lambda p, _: statements(p)[0].update(Resource={"Fn::GetAtt": ["PublishLogs", "Arn"]}), foreign)
        self.assertCaught(lambda p, _: statements(p).append(dict(statements(p)[0])), foreign)
        self.assertCaught(lambda p, _: statements(p).pop(0), foreign)
        self.assertCaught(
            lambda p, _: p["AlertsFunction"].update(Role={"Fn::GetAtt": ["ConnectFunctionRole", "Arn"]}),
            "AlertsFunction: may write other logs than its own",
            "ConnectFunctionRole: is the role of several functions: AlertsFunction, ConnectFunction",
        )

    def test_a_statement_that_names_only_what_it_does_not_allow_is_caught(self):
        def plant(properties, _):
            statement = properties["ConnectFunctionRole"]["Policies"][0]["PolicyDocument"]["Statement"][2]
            statement["NotAction"] = statement.pop("Action")

        self.assertCaught(plant, "ConnectFunctionRole: a statement allows everything but what it names")

    def test_a_policy_outside_of_a_role_is_caught(self):
        def plant(_, resources):
            resources["Extra"] = {"Type": "AWS::IAM::Policy", "Properties": {}}

        self.assertCaught(plant, "Extra: policies belong into the role of their function")
        self.assertCaught(
            lambda p, _: p["PublisherPolicy"].update(Roles=[{"Ref": "ConnectFunctionRole"}]),
            "PublisherPolicy: a managed policy is for others, and policies of functions belong into their roles",
        )

    def test_a_reason_for_what_is_not_there_any_more_is_caught(self):
        allowed = policy.allowed_wildcards() | {("ConnectFunctionRole", "s3:*")}
        found = policy.findings(self.template, allowed, policy.runbook_sections())
        self.assertEqual(found, ["ConnectFunctionRole: wildcards.json allows s3:*, which the template does not have"])

    def test_a_function_without_a_log_group_is_caught(self):
        expected = "ConnectFunction: a function without a log group that ends its logs"
        uncounted = "ConnectFunction: a function whose lines of errors are not counted"
        foreign = "ConnectFunction: may write other logs than its own"
        self.assertCaught(lambda p, _: p["ConnectFunction"]["LoggingConfig"].pop("LogGroup"), expected, uncounted, foreign)
        self.assertCaught(lambda p, _: p["ConnectLogs"].pop("RetentionInDays"), expected)
        self.assertCaught(lambda p, _: p["ConnectFunction"]["LoggingConfig"].update(LogGroup="elsewhere"), expected, uncounted, foreign)
        self.assertCaught(lambda _, resources: resources.pop("ConnectErrorLines"), uncounted)

    def test_a_function_without_an_alarm_is_caught(self):
        self.assertCaught(
            lambda _, resources: resources.pop("ConnectErrorsAlarm"),
            "ConnectFunction: a function without an alarm on its Errors",
        )
        self.assertCaught(
            lambda p, _: p["ThrottledAlarm"].update(Metrics=[metric for metric in p["ThrottledAlarm"]["Metrics"] if metric["Id"] != "connect"]),
            "ConnectFunction: a function without an alarm on its Throttles",
        )

    def test_the_alarm_of_a_canary_rings_when_nothing_is_written(self):
        alarm = self.template["Resources"]["SilenceAlarm"]["Properties"]
        self.assertEqual((alarm["ComparisonOperator"], alarm["Threshold"], alarm["TreatMissingData"]), ("LessThanThreshold", 1, "breaching"))
        # Otherwise the function needs alarms like any other.
        self.assertCaught(
            lambda p, _: p["SilenceAlarm"].update(TreatMissingData="notBreaching"),
            "CanaryFunction: a function without an alarm on its Errors",
            "CanaryFunction: a function without an alarm on its Throttles",
        )

    def test_a_metric_of_alerts_that_do_not_arrive_without_an_alarm_is_caught(self):
        unwatched = "DeliverFunction: no alarm on its metric Undelivered"
        self.assertCaught(lambda _, resources: resources.pop("UndeliveredPushesAlarm"), unwatched)

        def plant(properties, _):
            for query in properties["UndeliveredPushesAlarm"]["Metrics"]:
                if query["Id"] == "undelivered":
                    query["MetricStat"]["Metric"]["Dimensions"][0]["Value"]["Ref"] = "PublishFunction"

        self.assertCaught(plant, unwatched)

    def test_a_function_that_the_dashboard_does_not_show_is_caught(self):
        def plant(properties, _):
            body = properties["Dashboard"]["DashboardBody"]
            body["Fn::Sub"] = body["Fn::Sub"].replace("${ConnectFunction}", "")

        self.assertCaught(plant, "ConnectFunction: a function that the dashboard does not show")

    def test_sockets_are_reached_over_ipv6(self):
        self.assertEqual(self.template["Resources"]["WebSocketApi"]["Properties"]["IpAddressType"], "dualstack")

    def test_a_permission_without_its_source_is_caught(self):
        for name in ("ConnectPermission", "PublishFunctionScoredPermission"):
            self.assertCaught(lambda p, _: p[name].pop("SourceArn"), f"{name}: a permission without SourceArn")

    def test_a_table_with_a_key_that_is_billed_or_without_a_time_to_live_is_caught(self):
        self.assertCaught(
            lambda p, _: p["AlertsTable"].update(SSESpecification={"SSEEnabled": True}),
            "AlertsTable: a table with a key whose use is billed",
        )
        self.assertCaught(
            lambda p, _: p["AlertsTable"]["TimeToLiveSpecification"].update(Enabled=False),
            "AlertsTable: a table without a time to live",
        )

    def test_a_route_for_everybody_without_a_throttle_is_caught(self):
        open_to_all = "anybody can call this route, and it has no throttle"
        for side in (1, 2):
            template = copy.deepcopy(self.template)
            stage = template["Resources"]["WebSocketStage"]["Properties"]
            stage["RouteSettings"]["Fn::If"][side]["ping"].pop("ThrottlingBurstLimit")
            self.assertIn(f"PingRoute: {open_to_all}", self.findings(template))
        self.assertCaught(
            lambda p, _: p["WebSocketStage"].pop("DefaultRouteSettings"), f"PublishRoute: {open_to_all}", f"DefaultRoute: {open_to_all}"
        )
        for route in ("GET /alerts", "POST /webhook"):
            template = copy.deepcopy(self.template)
            stage = template["Resources"]["HttpApiApiGatewayDefaultStage"]["Properties"]
            stage["RouteSettings"]["Fn::If"][2].pop(route)
            self.assertIn(f"HttpApi: anybody can call {route}, and it has no throttle", self.findings(template))
        self.assertCaught(
            lambda _, resources: resources["WebSocketStage"]["DependsOn"].remove("PingRoute"),
            "WebSocketStage: has settings of ping and may be made before PingRoute",
        )

    def test_a_throttle_that_arrives_as_a_text_at_the_defaults_is_caught(self):
        def numbers(properties):
            return properties["WebSocketStage"]["RouteSettings"]["Fn::If"][1]

        other = "WebSocketStage: the throttles under HasDefaultSocketRates are not the defaults"
        self.assertCaught(lambda p, _: numbers(p)["ping"].update(ThrottlingRateLimit=251), other)
        text = {"Ref": "PingRate"}
        self.assertCaught(
            lambda p, _: numbers(p)["ping"].update(ThrottlingRateLimit=text), other, "WebSocketStage: a throttle of a route arrives as a text"
        )
        template = copy.deepcopy(self.template)
        template["Parameters"]["PingRate"]["Default"] = 300
        self.assertEqual(
            self.findings(template),
            ["WebSocketStage: HasDefaultSocketRates is not about the defaults", other],
        )

    def test_data_of_which_it_is_not_said_what_becomes_of_it_is_caught(self):
        for name in ("UnpublishedQueue", "AlertsTable", "ConnectLogs"):
            for policy_of in ("DeletionPolicy", "UpdateReplacePolicy"):
                self.assertCaught(lambda _, resources: resources[name].pop(policy_of), f"{name}: does not say what becomes of its data")

    def test_an_environment_without_a_bound_is_caught(self):
        template = copy.deepcopy(self.template)
        template["Parameters"]["TokenIssuer"].pop("MaxLength")
        unbounded = "has no longest value, see MaxLength"
        functions = ("AlertsFunction", "AuthorizeFunction", "CanaryFunction")
        self.assertCountEqual(self.findings(template), [f"{function}: TOKEN_ISSUER {unbounded}" for function in functions])
        template = copy.deepcopy(self.template)
        template["Parameters"]["AllowedOrigins"]["MaxLength"] = 4000
        (found,) = self.findings(template)
        self.assertRegex(found, r"^ConnectFunction: its environment may have 4\d+ bytes, Lambda takes 4096$")

    def test_events_that_other_stacks_hear_or_send_are_caught(self):
        old = "viral-alerts.scorer"
        self.assertCaught(
            lambda p, _: p["PublishFunctionScored"]["EventPattern"].update(source=[old]),
            "PublishFunctionScored: hears other events than those of its own stack",
        )
        for name in ("ScorerFunctionRole", "PublisherPolicy"):

            def plant(properties, _):
                (policy_of, *_) = properties[name].get("Policies", [properties[name]])
                for statement in policy.statements([policy_of]):
                    if "events:PutEvents" in policy.listed(statement["Action"]):
                        statement["Condition"]["StringEquals"]["events:source"] = old

            self.assertCaught(plant, f"{name}: may put events that are not of its own stack")
        self.assertCaught(
            lambda p, _: p["ScorerFunction"]["Environment"]["Variables"].update(SCORER_SOURCE=old),
            "ScorerFunction: sends events that are not of its own stack",
        )

    def test_silence_that_does_not_ring_is_caught(self):
        self.assertCaught(
            lambda p, _: p["RecoverStoppedAlarm"].update(TreatMissingData="notBreaching"),
            "RecoverFunctionEveryMinute: no alarm rings when RecoverFunction does not run",
        )
        metrics = [
            ("LostEventsAlarm", "delivered", "DeliverFunctionEventInvokeConfig: no alarm on AsyncEventsDropped of DeliverFunction"),
            ("LostEventsAlarm", "unpublished", "PublishFunctionEventInvokeConfig: no alarm on DestinationDeliveryFailures of PublishFunction"),
            ("TablesThrottledAlarm", "alertswrite", "AlertsTable: no alarm on its WriteThrottleEvents"),
        ]
        for alarm, removed, expected in metrics:
            self.assertCaught(
                lambda p, _: p[alarm].update(Metrics=[query for query in p[alarm]["Metrics"] if query["Id"] != removed]), expected
            )

    def test_arithmetic_without_a_value_for_what_is_missing_is_caught(self):
        def plant(properties, _):
            for query in properties["GoneAlarm"]["Metrics"]:
                if query["Id"] == "pushes":
                    query["Expression"] = "FILL(sent, 0) + gone"

        self.assertCaught(plant, "GoneAlarm: pushes has no value where gone has none")

    def test_alarms_with_arithmetic_ring_for_what_they_are_for_and_for_nothing_else(self):
        """Each with what happened in a period. What is not named did not happen, and CloudWatch has no data for it."""
        alarms = policy.of_type(self.template["Resources"], "AWS::CloudWatch::Alarm")
        for alarm, happened, rings in [
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
            ("GoneAlarm", {"gone": 200}, True),
            ("GoneAlarm", {"sent": 200}, False),
            ("UndeliveredPushesAlarm", {"undelivered": 200}, True),
            ("UndeliveredPushesAlarm", {"sent": 200, "undelivered": 1}, False),
        ]:
            with self.subTest(alarm, happened=happened):
                self.assertEqual(metric_math.rings(alarms[alarm], happened), rings)

    def test_a_reservation_that_nobody_has_asked_for_is_caught(self):
        self.assertCaught(
            lambda p, _: p["DeliverFunction"].update(ReservedConcurrentExecutions=100),
            "DeliverFunction: reserves concurrency where nobody has asked for it",
        )
        self.assertEqual(self.template["Conditions"]["HasReservedConcurrency"], {"Fn::Not": [{"Fn::Equals": [{"Ref": "ReservedConcurrency"}, 0]}]})
        self.assertEqual(self.template["Parameters"]["ReservedConcurrency"]["Default"], 0)

    def test_an_alarm_without_a_runbook_is_caught(self):
        self.assertCaught(
            lambda p, _: p["LagAlarm"].update(AlarmDescription="Late"),
            "LagAlarm: an alarm without a section of docs/runbook.md",
        )
        self.assertCaught(
            lambda p, _: p["LagAlarm"].update(AlarmDescription="Late. Runbook - docs/runbook.md#not-there"),
            "LagAlarm: docs/runbook.md has no section not-there",
        )


class Canary(unittest.TestCase):
    def versions(self, change=lambda function: None, **parameters):
        """The names of the versions that SAM would publish of connect, if it had an alias."""

        def alias(template):
            function = template["Resources"]["ConnectFunction"]
            function["Properties"].update(AutoPublishAlias="live", AutoPublishAliasAllProperties=True)
            change(function["Properties"])

        return list(policy.of_type(policy.transformed(alias, **parameters)["Resources"], "AWS::Lambda::Version"))

    def test_a_version_follows_the_template_and_not_the_parameters(self):
        """Why no function has an alias: docs/operations.md, "Deployments". If this fails, SAM has mended it, and canaries can be had."""
        (version,) = self.versions()
        self.assertNotEqual(self.versions(lambda function: function.update(Timeout=9)), [version])
        for parameters in [{"DefaultRegion": "PL"}, {"AllowedOrigins": "https://example.com"}, {"LogLevel": "DEBUG"}, {"Architecture": "x86_64"}]:
            with self.subTest(parameters):
                self.assertEqual(self.versions(**parameters), [version])

    def test_no_function_has_an_alias(self):
        self.assertEqual(policy.of_type(policy.transformed()["Resources"], "AWS::Lambda::Alias"), {})


if __name__ == "__main__":
    unittest.main()
