import { type Api, mount } from "../http/operation.ts";
import { createRulesHandler, createRulesRoute } from "./create-rules.ts";
import { deleteRuleHandler, deleteRuleRoute } from "./delete-rule.ts";
import { createExplainRulesHandler, explainRulesRoute } from "./explain-rules.ts";
import { getRuleHandler, getRuleRoute } from "./get-rule.ts";
import { listRulesHandler, listRulesRoute } from "./list-rules.ts";
import { patchRuleHandler, patchRuleRoute } from "./patch-rule.ts";

export function mountRules(api: Api): void {
  mount(api, createRulesRoute, createRulesHandler);
  mount(api, listRulesRoute, listRulesHandler);
  // Before the rule of a name: no rule has the name explain.
  mount(api, explainRulesRoute, createExplainRulesHandler());
  mount(api, getRuleRoute, getRuleHandler);
  mount(api, patchRuleRoute, patchRuleHandler);
  mount(api, deleteRuleRoute, deleteRuleHandler);
}
