"""The project's template keeps the rules, and each rule catches a fault that is planted."""

import copy
import tomllib
import unittest

import log_lines
import policy


class Template(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.template = policy.transformed()

    def findings(self, template):
        return policy.findings(template, policy.allowed_wildcards(), policy.runbook_sections())

    def assertCaught(self, plant, *expected):
        template = copy.deepcopy(self.template)
        plant({name: resource["Properties"] for name, resource in template["Resources"].items()}, template["Resources"])
        self.assertEqual(self.findings(template), list(expected))

    def test_the_template_keeps_all_rules(self):
        self.assertEqual(self.findings(self.template), [])

    def test_a_wildcard_without_a_reason_is_caught(self):
        def statement(properties):
            return properties["ConnectFunctionRole"]["Policies"][0]["PolicyDocument"]["Statement"][0]

        reasonless = "is a wildcard without a reason in wildcards.json"
        for part, value, text in [
            ("Action", "dynamodb:*", "dynamodb:*"),
            ("Action", ["dynamodb:PutItem", "dynamodb:Batch*"], "dynamodb:Batch*"),
            ("Resource", "*", "*"),
            ("Resource", {"Fn::Sub": "${SubscriptionsTable.Arn}/index/*"}, "${SubscriptionsTable.Arn}/index/*"),
            ("Resource", {"Fn::If": ["Some", {"Fn::GetAtt": ["AlertsTable", "Arn"]}, "arn:*"]}, "arn:*"),
            ("Resource", {"Fn::Join": ["", ["arn:", "*"]]}, '{"Fn::Join": ["", ["arn:", "*"]]}'),
        ]:
            with self.subTest(text):
                self.assertCaught(lambda p, _: statement(p).update({part: value}), f"ConnectFunctionRole: {text} {reasonless}")
        self.assertCaught(
            lambda p, _: p["ConnectFunctionRole"]["ManagedPolicyArns"].append("arn:aws:iam::aws:policy/AdministratorAccess"),
            f"ConnectFunctionRole: AdministratorAccess {reasonless}",
        )

    def test_a_statement_that_names_only_what_it_does_not_allow_is_caught(self):
        def plant(properties, _):
            statement = properties["ConnectFunctionRole"]["Policies"][0]["PolicyDocument"]["Statement"][0]
            statement["NotAction"] = statement.pop("Action")

        self.assertCaught(plant, "ConnectFunctionRole: a statement allows everything but what it names")

    def test_a_policy_outside_of_a_role_is_caught(self):
        def plant(_, resources):
            resources["Extra"] = {"Type": "AWS::IAM::Policy", "Properties": {}}

        self.assertCaught(plant, "Extra: policies belong into the role of their function")

    def test_a_reason_for_what_is_not_there_any_more_is_caught(self):
        allowed = policy.allowed_wildcards() | {("ConnectFunctionRole", "s3:*")}
        found = policy.findings(self.template, allowed, policy.runbook_sections())
        self.assertEqual(found, ["ConnectFunctionRole: wildcards.json allows s3:*, which the template does not have"])

    def test_a_function_without_a_log_group_is_caught(self):
        expected = "ConnectFunction: a function without a log group that ends its logs"
        uncounted = "ConnectFunction: a function whose lines of errors are not counted"
        self.assertCaught(lambda p, _: p["ConnectFunction"]["LoggingConfig"].pop("LogGroup"), expected, uncounted)
        self.assertCaught(lambda p, _: p["ConnectLogs"].pop("RetentionInDays"), expected)
        self.assertCaught(lambda p, _: p["ConnectFunction"]["LoggingConfig"].update(LogGroup="elsewhere"), expected, uncounted)
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

    def test_a_permission_without_its_source_is_caught(self):
        for name in ("ConnectPermission", "PublishFunctionScoredPermission"):
            self.assertCaught(lambda p, _: p[name].pop("SourceArn"), f"{name}: a permission without SourceArn")

    def test_a_table_without_encryption_or_time_to_live_is_caught(self):
        self.assertCaught(lambda p, _: p["AlertsTable"].pop("SSESpecification"), "AlertsTable: a table without encryption")
        self.assertCaught(
            lambda p, _: p["AlertsTable"]["TimeToLiveSpecification"].update(Enabled=False),
            "AlertsTable: a table without a time to live",
        )

    def test_a_route_for_everybody_without_a_throttle_is_caught(self):
        open_to_all = "anybody can call this route, and it has no throttle"
        self.assertCaught(lambda p, _: p["WebSocketStage"]["RouteSettings"]["ping"].pop("ThrottlingBurstLimit"), f"PingRoute: {open_to_all}")
        self.assertCaught(
            lambda p, _: p["WebSocketStage"].pop("DefaultRouteSettings"), f"PublishRoute: {open_to_all}", f"DefaultRoute: {open_to_all}"
        )
        for route in ("GET /alerts", "POST /webhook"):
            self.assertCaught(
                lambda p, _: p["HttpApiApiGatewayDefaultStage"]["RouteSettings"].pop(route),
                f"HttpApi: anybody can call {route}, and it has no throttle",
            )
        self.assertCaught(
            lambda _, resources: resources["WebSocketStage"]["DependsOn"].remove("PingRoute"),
            "WebSocketStage: has settings of ping and may be made before PingRoute",
        )

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
            "LagAlarm: an alarm without a section of docs/operations.md",
        )
        self.assertCaught(
            lambda p, _: p["LagAlarm"].update(AlarmDescription="Late. Runbook - docs/operations.md#not-there"),
            "LagAlarm: docs/operations.md has no section not-there",
        )


class LogLines(unittest.TestCase):
    def test_each_warning_and_error_is_explained_and_nothing_else(self):
        """Who is woken by an alarm on lines of errors looks for the line in the document."""
        functions = policy.ROOT.glob("functions/*/src")
        for document, *folders in [
            ("docs/operations.md", policy.ROOT / "shared/src", *functions),
            ("bridge/README.md", policy.ROOT / "bridge/src"),
        ]:
            with self.subTest(document):
                written = log_lines.written(*folders)
                explained = log_lines.explained((policy.ROOT / document).read_text())
                self.assertEqual(written - explained, set(), f"{document} has no row for these")
                self.assertEqual(explained - written, set(), f"{document} has a row for what is not written, or not at this level")

    def test_calls_are_read_on_one_line_and_on_several_and_without_tests(self):
        source = """
            tracing::error!(error = %Chain(&failure), "it failed");
            warn!(
                entries = left.len(),
                code,
                "not taken"
            );
            tracing::info!("all is well");
            tracing::error!(failure);
            #[cfg(test)]
            mod tests {
                tracing::warn!("of a test");
            }
        """
        read = list(log_lines.calls(source))
        self.assertEqual(read[:2], [("error", "it failed"), ("warn", "not taken")])
        self.assertEqual([(level, message[:10]) for level, message in read[2:]], [("error", "no message")])

    def test_rows_may_name_several_messages(self):
        document = "| message | level | |\n|---|---|---|\n| `a`, `b: c` | warn | |\n| `d` | info | |\n| `e` | error | `f` |\n"
        self.assertEqual(log_lines.explained(document), {("warn", "a"), ("warn", "b: c"), ("error", "e")})


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


class Release(unittest.TestCase):
    def test_nothing_of_the_profile_is_left_to_cargo_lambda(self):
        """It aborts on panic where nothing is said, and a function that aborts reports no error to Lambda."""
        profile = tomllib.loads((policy.ROOT / "Cargo.toml").read_text())["profile"]["release"]
        self.assertEqual(profile["panic"], "unwind")
        self.assertLessEqual({"codegen-units", "lto", "panic", "strip"}, profile.keys())


if __name__ == "__main__":
    unittest.main()
