// Trust policies × requests: the local pool's verdicts against those of @cloud-copilot/iam-simulate, a simulator of IAM that
// nobody here wrote. `policies.mjs corpus FILE` writes what is asked; `policies.mjs compare FILE ANSWER` prints a line of
// JSON a check. A difference must be one of `DIFFERENCES`, each with the page of AWS's guide that settles it.

import { readFileSync, writeFileSync } from 'node:fs'

import { DIFFERENCES, GRAMMAR_DIFFERENCES } from './policy_differences.mjs'
import { malformed, policies } from './policy_corpus.mjs'

// The engine, not the public entry: the latter takes `amr` as a key of one value, and fails on resource policies.
const base = new URL('../node_modules/@cloud-copilot/', import.meta.url).href
const load = (path) => import(base + path)
const { loadPolicy, validateTrustPolicy } = await load('iam-policy/dist/esm/index.js')
const { authorize } = await load('iam-simulate/dist/esm/core_engine/CoreSimulatorEngine.js')
const { AwsRequestImpl } = await load('iam-simulate/dist/esm/request/request.js')
const { RequestContextImpl } = await load('iam-simulate/dist/esm/requestContext.js')
const { DiscoveryContextKeyConstraints } = await load(
  'iam-simulate/dist/esm/context_keys/discoveryContextKeyConstraints.js'
)

const ACCOUNT = '123456789012'
const PRINCIPAL = 'cognito-identity.amazonaws.com'

const task = {
  pool: 'us-east-1:11111111-2222-3333-4444-555555555555',
  provider: 'login.example.app',
  now: 1767323045, // 2026-01-02T03:04:05Z
  user_agent: 'interop/1',
  requests: [
    { user: 'alice', session_name: 'alice', tags: {} },
    {
      user: 'alice',
      session_name: 'app_dev',
      tags: { repository: 'org/app', Environment: 'dev', actor: 'octocat', ref: 'refs/heads/main' }
    },
    {
      user: 'bob',
      session_name: 'bob',
      tags: {
        size: '12',
        when: '2026-01-01T00:00:00Z',
        address: '10.1.2.3',
        six: '2001:db8::1',
        arn: 'arn:aws:iam::123456789012:role/team/app',
        flag: 'True',
        blob: 'QmluYXJ5'
      }
    },
    { user: 'carol', session_name: 'app-prod', tags: { environment: 'prod', repository: 'org/other' } },
    { user: null, session_name: 'guest', tags: {} }
  ]
}

// What IAM knows of a request, by its documentation.
function context(request, identity) {
  const { user, tags } = request
  const amr = user ? ['authenticated', task.provider, `${task.provider}:${task.pool}:${user}`] : ['unauthenticated']
  const known = {
    [`${PRINCIPAL}:aud`]: task.pool,
    [`${PRINCIPAL}:sub`]: identity,
    [`${PRINCIPAL}:amr`]: amr,
    'sts:RoleSessionName': request.session_name,
    'aws:CurrentTime': new Date(task.now * 1000).toISOString().replace('.000', ''),
    'aws:EpochTime': String(task.now),
    'aws:SecureTransport': 'true',
    'aws:ViaAWSService': 'false',
    'aws:RequestedRegion': 'us-east-1',
    'aws:ResourceAccount': ACCOUNT,
    'aws:SourceIp': '127.0.0.1',
    'aws:UserAgent': task.user_agent
  }
  for (const [key, value] of Object.entries(tags)) known[`aws:RequestTag/${key}`] = value
  if (Object.keys(tags).length) known['aws:TagKeys'] = Object.keys(tags)
  return known
}

function judge(policy, known, action, role) {
  const resource = { resource: role, accountId: ACCOUNT }
  return authorize({
    request: new AwsRequestImpl(PRINCIPAL, resource, action, new RequestContextImpl(known)),
    identityPolicies: [],
    serviceControlPolicies: [],
    resourceControlPolicies: [],
    resourcePolicy: loadPolicy(policy, { name: 'trust' }),
    simulationParameters: {
      simulationMode: 'Strict',
      discoveryContextKeyConstraints: new DiscoveryContextKeyConstraints([])
    },
    serviceSettings: {}
  }).result
}

// The simulator's verdict on an exchange: with tags it needs two actions.
function simulated(policy, request, known, role) {
  const actions = ['sts:AssumeRoleWithWebIdentity']
  if (Object.keys(request.tags).length) actions.push('sts:TagSession')
  try {
    return actions.every((action) => judge(policy, known, action, role) === 'Allowed') ? 'Allowed' : 'AccessDenied'
  } catch (error) {
    return `fails: ${error.message}`
  }
}

const checks = []
const check = (name, problem) => checks.push({ name, problem: problem ?? null })

function compare(answer) {
  const valid = policies()
  const used = new Set()
  let verdicts = 0
  const problems = []
  for (const [index, { name, policy }] of valid.entries()) {
    const ours = answer.verdicts[index]
    if (!Array.isArray(ours)) {
      problems.push(`${name}: not registered: ${ours.message}`)
      continue
    }
    for (const [at, request] of task.requests.entries()) {
      verdicts += 1
      const known = context(request, answer.identities[at])
      const theirs = simulated(policy, request, known, `arn:aws:iam::${ACCOUNT}:role/r${index}`)
      if (theirs === ours[at]) continue
      const listed = DIFFERENCES.filter((difference) => difference.about(policy, known, ours[at], theirs))
      for (const difference of listed) used.add(difference)
      if (!listed.length) problems.push(`${name} for ${request.session_name}: ${ours[at]}, the simulator says ${theirs}`)
    }
  }
  check(`policies: at least 300 (${valid.length}) are judged, ${verdicts} verdicts`, valid.length >= 300 ? null : 'too few')
  const distinct = new Set(valid.map(({ policy }) => JSON.stringify(policy))).size
  check('policies: no two are the same', distinct === valid.length ? null : `${valid.length - distinct} are`)
  const both = answer.verdicts.slice(0, valid.length).flat()
  for (const verdict of ['Allowed', 'AccessDenied']) {
    const count = both.filter((said) => said === verdict).length
    check(`policies: a fifth of the verdicts at least is ${verdict} (${count})`, count * 5 >= both.length ? null : 'too few')
  }
  for (const difference of DIFFERENCES) {
    const what = `policies: the simulator differs as listed: ${difference.what} (${difference.source})`
    check(what, used.has(difference) ? null : 'it does not, or not any more')
  }
  check('policies: no other difference', problems.length ? `${problems.length}: ${problems.slice(0, 12).join(' | ')}` : null)

  const refused = malformed()
  const unlike = []
  const used_grammar = new Set()
  for (const [index, { name, policy }] of refused.entries()) {
    const ours = answer.verdicts[valid.length + index]
    if (Array.isArray(ours) || ours.rule !== 'TrustPolicyMalformed') {
      unlike.push(`${name}: taken, or not judged`)
      continue
    }
    if (typeof policy === 'string') continue
    if (validateTrustPolicy(policy).length) continue
    const listed = GRAMMAR_DIFFERENCES.find((difference) => difference.names.includes(name))
    if (listed) used_grammar.add(listed)
    else unlike.push(`${name}: refused here (${ours.message}), valid there`)
  }
  for (const { name, policy } of valid) {
    const [error] = validateTrustPolicy(policy)
    if (error) unlike.push(`${name}: taken here, there ${error.message} at ${error.path}`)
  }
  for (const difference of GRAMMAR_DIFFERENCES) {
    const what = `policies: the simulator's grammar differs as listed: ${difference.what} (${difference.source})`
    check(what, used_grammar.has(difference) ? null : 'it does not, or not any more')
  }
  check(`policies: ${refused.length} malformed ones are refused`, unlike.length ? unlike.slice(0, 12).join(' | ') : null)
}

const [, , mode, file, answer] = process.argv
if (mode === 'corpus') {
  const all = [...policies(), ...malformed()].map(({ policy }) => policy)
  writeFileSync(file, JSON.stringify({ ...task, policies: all }))
} else {
  compare(JSON.parse(readFileSync(answer, 'utf8')))
  for (const line of checks) console.log(JSON.stringify(line))
}
