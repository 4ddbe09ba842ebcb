// Where @cloud-copilot/iam-simulate is known to judge otherwise than IAM, and the page of the IAM User Guide
// (docs.aws.amazon.com/IAM/latest/UserGuide) that says so. `about` is as narrow as the difference.

const list = (value) => (Array.isArray(value) ? value : [value]).map(String)

function conditions(policy) {
  return list_of(policy.Statement).flatMap(({ Condition = {} }) =>
    Object.entries(Condition).flatMap(([operator, keys]) =>
      Object.entries(keys).map(([key, values]) => ({ operator, key, values: list(values) }))
    )
  )
}

const list_of = (value) => (Array.isArray(value) ? value : [value])

// The value of a condition key, whose name does not distinguish upper and lower case.
function value(known, key) {
  const found = Object.keys(known).find((name) => name.toLowerCase() === key.toLowerCase())
  return known[found]
}

const is_four = (address) => address.includes('.')

// The variables of a text that have neither a value nor a default.
function without_value(text, known) {
  const variables = [...text.matchAll(/\$\{([^}]*)\}/g)].map(([, inside]) => inside)
  return variables.filter((inside) => !['*', '?', '$'].includes(inside) && !inside.includes(',') && !value(known, inside))
}

export const DIFFERENCES = [
  {
    what: '0.0.0.0/0 contains no address there',
    source: 'reference_policies_elements_condition_operators, IP address condition operators',
    about: (policy) =>
      conditions(policy).some(({ operator, values }) => operator.includes('IpAddress') && values.includes('0.0.0.0/0'))
  },
  {
    what: 'NotIpAddress of one address does not hold there for an address of the other family',
    source: 'reference_policies_elements_condition_operators, IP address condition operators',
    about: (policy, known) =>
      conditions(policy).some(
        ({ operator, key, values }) =>
          operator === 'NotIpAddress' &&
          values.some((one) => !one.includes('/') && value(known, key) && is_four(one) !== is_four(value(known, key)))
      )
  },
  {
    what: 'a negated operator does not hold there against a policy variable without a value',
    source: 'reference_policies_variables, policy variables with no value',
    about: (policy, known, ours) =>
      ours === 'Allowed' &&
      conditions(policy).some(
        ({ operator, values }) => operator.includes('Not') && values.some((text) => without_value(text, known).length)
      )
  },
  {
    what: 'policies of versions before 2012-10-17 have policy variables there',
    source: 'reference_policies_elements_version',
    about: (policy) =>
      policy.Version !== '2012-10-17' && conditions(policy).some(({ values }) => values.some((text) => text.includes('${')))
  },
  {
    what: 'ForAnyValue with IfExists does not hold there for an absent key',
    source: 'reference_policies_elements_condition_operators, IfExists',
    about: (policy, known) =>
      conditions(policy).some(
        ({ operator, key }) => /^ForAnyValue:.*IfExists$/.test(operator) && value(known, key) === undefined
      )
  },
  {
    what: 'a date in seconds since the epoch is one in milliseconds there',
    source: 'reference_policies_elements_condition_operators, date condition operators',
    about: (policy) =>
      conditions(policy).some(
        ({ operator, values }) => operator.startsWith('Date') && values.some((text) => /^\d+$/.test(text))
      )
  }
]

export const GRAMMAR_DIFFERENCES = [
  {
    what: 'operators that do not exist are taken there',
    source: 'ministryofjustice/modernisation-platform-environments#8893; reference_policies_elements_condition_operators',
    names: ['stringEquals', 'StringMatches', 'NullIfExists']
  },
  {
    what: 'a bare star as principal of a trust policy is taken there',
    source: 'aws/aws-cdk#5732',
    names: ['a star as principal']
  },
  {
    what: 'empty principals and empty lists of actions are taken there',
    source: 'reference_policies_grammar',
    names: ['an empty principal', 'an empty list of actions']
  },
  {
    what: 'actions of other services are taken there in a trust policy',
    source: 'reference_policies_elements_action; IAM answers "AssumeRole policy may only specify STS AssumeRole actions"',
    names: ['an action of another service', 'an action of another service beside']
  },
  {
    what: 'the form of Sids, and that they differ, is not checked there',
    source: 'reference_policies_elements_sid',
    names: ['a Sid with a blank', 'a Sid twice']
  }
]
