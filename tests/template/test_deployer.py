"""Who may deploy: infra/deployer.yaml allows every service of the templates, and no write access beyond its stacks."""

import unittest

import policy


class Deployer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        resources = policy.parsed("infra/deployer.yaml")["Resources"]
        cls.statements = list(policy.statements([resources["DeployerPolicy"]["Properties"]]))

    def test_it_allows_each_service_of_the_templates(self):
        domain = policy.parsed("infra/domain.yaml")["Resources"]
        resources = [*policy.transformed()["Resources"].values(), *domain.values()]
        services = {resource["Type"].split("::")[1].lower().removesuffix("v2") for resource in resources}
        actions = (action for statement in self.statements for action in policy.as_list(statement["Action"]))
        self.assertLessEqual(services | {"cloudformation", "s3"}, {action.split(":")[0] for action in actions})

    def test_it_can_only_read_and_set_up_log_delivery_outside_of_its_stacks(self):
        reading = r"\w+:(Describe|Get|List|Validate)\w+"
        log_delivery = r"logs:(Create|Delete|Update)LogDelivery|logs:PutResourcePolicy"
        # An action that takes no resource.
        creation = r"appsync:CreateApi"
        of_gateway = ("/apis*", "/domainnames*", "/tags/*")
        of_appsync = (":apis/*", ":role/aws-service-role/appsync.amazonaws.com/*")
        without_names = (*of_gateway, *of_appsync, "transform/Serverless-2016-10-31")
        for statement in self.statements:
            for resource in policy.strings(statement["Resource"]):
                if resource == "*":
                    for action in policy.as_list(statement["Action"]):
                        self.assertRegex(action, rf"^({reading}|{log_delivery}|{creation})$")
                elif not resource.endswith(without_names):
                    self.assertRegex(resource, r"\$\{StackPrefix\}\*|aws-sam-cli-managed-default")


class GitHub(unittest.TestCase):
    def test_the_role_is_for_one_environment_of_one_repository_and_has_the_deployer_s_policy_only(self):
        template = policy.parsed("infra/github.yaml")
        role = template["Resources"]["Role"]["Properties"]
        self.assertEqual(role["ManagedPolicyArns"], [{"Ref": "DeployerPolicyArn"}])
        self.assertNotIn("Policies", role)
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        self.assertEqual(statement["Action"], "sts:AssumeRoleWithWebIdentity")
        issuer = "token.actions.githubusercontent.com"
        # Compared as a whole: with StringLike or a wildcard other repositories could get the role.
        subject = {"Fn::Sub": "repo:${Repository}:environment:${Environment}"}
        expected = {"StringEquals": {f"{issuer}:aud": "sts.amazonaws.com", f"{issuer}:sub": subject}}
        self.assertEqual(statement["Condition"], expected)
        for name, value in [("Repository", "a/*"), ("Repository", "a/b:environment:x"), ("Environment", "x:ref:y")]:
            self.assertNotRegex(value, template["Parameters"][name]["AllowedPattern"])


if __name__ == "__main__":
    unittest.main()
