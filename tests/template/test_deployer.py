"""The policy of who deploys has what the templates need, and no more."""

import unittest

import policy
from samtranslator.yaml_helper import yaml_parse


class Deployer(unittest.TestCase):
    """The policy of who deploys: nobody else has tried it on AWS, so it is held to what the templates have."""

    @classmethod
    def setUpClass(cls):
        template = yaml_parse((policy.ROOT / "infra/deployer.yaml").read_text())
        cls.statements = list(policy.statements([template["Resources"]["DeployerPolicy"]["Properties"]]))

    def test_it_has_each_service_of_the_templates(self):
        domain = yaml_parse((policy.ROOT / "infra/domain.yaml").read_text())["Resources"]
        resources = [*policy.transformed()["Resources"].values(), *domain.values()]
        services = {resource["Type"].split("::")[1].lower().removesuffix("v2") for resource in resources}
        allowed = {action.split(":")[0] for statement in self.statements for action in policy.listed(statement["Action"])}
        self.assertLessEqual(services | {"cloudformation", "s3"}, allowed)

    def test_what_it_may_do_with_everything_is_to_look_and_to_have_access_logs_delivered(self):
        for statement in self.statements:
            for text in policy.texts(statement["Resource"]):
                if text == "*":
                    for action in policy.listed(statement["Action"]):
                        reading = r"\w+:(Describe|Get|List|Validate)\w+"
                        self.assertRegex(action, rf"^({reading}|logs:(Create|Delete|Update)LogDelivery|logs:PutResourcePolicy)$")
                elif not text.endswith(("/apis*", "/domainnames*", "/tags/*", "transform/Serverless-2016-10-31")):
                    self.assertRegex(text, r"\$\{StackPrefix\}\*|aws-sam-cli-managed-default")


if __name__ == "__main__":
    unittest.main()
