// Reads cases as JSON, and writes for each what iam-simulate decides.
import { readFileSync } from 'node:fs'
import { runSimulation } from '@cloud-copilot/iam-simulate'

const decided = []
for (const each of JSON.parse(readFileSync(0))) {
  const answer = await runSimulation({
    request: {
      principal: each.principal,
      action: each.action,
      resource: { resource: each.resource, accountId: each.account },
      contextVariables: each.context,
    },
    identityPolicies: each.policies.map((policy, number) => ({ name: `${number}`, policy })),
    serviceControlPolicies: [],
    resourceControlPolicies: [],
    resourcePolicy: each.resource_policy ?? undefined,
  }, {})
  const result = answer.results?.[0] ?? answer.result
  decided.push({
    effect: answer.overallResult ?? 'error',
    unknown: [...(result?.ignoredContextKeys ?? []), ...(answer.errors ? [JSON.stringify(answer.errors)] : [])],
  })
}
console.log(JSON.stringify(decided))
