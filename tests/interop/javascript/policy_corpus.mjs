// The policies that are asked: the forms of published stacks, with their values replaced, and every operator with every
// qualifier over keys that are there, absent, and have several values.

const P = 'cognito-identity.amazonaws.com'
const POOL = 'us-east-1:11111111-2222-3333-4444-555555555555'
const ASSUME = 'sts:AssumeRoleWithWebIdentity'
const BOTH = [ASSUME, 'sts:TagSession']

const document = (...statements) => ({ Version: '2012-10-17', Statement: statements })
const allow = (Condition, Action = BOTH) => ({ Effect: 'Allow', Principal: { Federated: P }, Action, Condition })
const deny = (Condition, Action = 'sts:*') => ({ Effect: 'Deny', Principal: { Federated: P }, Action, Condition })

const aud = { [`${P}:aud`]: POOL }
const amr = (values) => ({ [`${P}:amr`]: values })
const authenticated = { 'ForAnyValue:StringLike': amr('authenticated') }
const member = { StringEquals: aud, ...authenticated }
const tag = (key) => `aws:RequestTag/${key}`

// The shapes of published stacks. Accounts, pools, providers and names are replaced.
function published() {
  const oidc = 'arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com'
  const shapes = {
    'Developer Guide, authenticated': document(allow(member, ASSUME)),
    'Developer Guide, unauthenticated': document({
      Sid: '',
      ...allow({ StringEquals: aud, 'ForAnyValue:StringLike': amr('unauthenticated') }, ASSUME)
    }),
    'Developer Guide, several pools': document(
      allow({ StringEquals: { [`${P}:aud`]: ['us-east-1:12345678-abcd-abcd-abcd-123456790ab', POOL] } }, ASSUME)
    ),
    'Developer Guide, own provider': document(allow({ 'ForAnyValue:StringLike': amr('login.example.app') }, ASSUME)),
    'Developer Guide, Facebook alone': document(allow({ 'ForAnyValue:StringLike': amr('graph.facebook.com') }, ASSUME)),
    'Developer Guide, attributes for access control': document(allow(member)),
    'Developer Guide, tag and session in two statements': document(allow(member, ASSUME), allow(member, 'sts:TagSession')),
    'fintechless/ftl-api: aud alone': document(allow({ StringEquals: aud }, ASSUME)),
    'umangshrestha/zellfresh: StringLike on amr without a qualifier': document(
      allow({ StringEquals: aud, StringLike: amr('authenticated') }, ASSUME)
    ),
    'CDK IdentityPool, authenticated': document({
      Action: ASSUME,
      Condition: { StringEquals: aud, 'ForAnyValue:StringLike': amr('authenticated') },
      Effect: 'Allow',
      Principal: { Federated: P }
    }),
    'CDK, lists of one': document(
      allow({ StringEquals: { [`${P}:aud`]: [POOL] }, 'ForAnyValue:StringLike': amr(['authenticated']) }, [ASSUME])
    ),
    'Amplify, guests and users': document(
      allow({ StringEquals: aud, 'ForAnyValue:StringLike': amr(['authenticated', 'unauthenticated']) }, ASSUME)
    ),
    'Terraform, one statement without a list': {
      Version: '2012-10-17',
      Statement: allow({ 'ForAnyValue:StringLike': amr('authenticated') }, ASSUME)
    },
    'cv app: users of two providers by name': document(
      allow({ StringEquals: aud, 'ForAnyValue:StringLike': amr(['*:alice', '*linkedin|u1']) }, ASSUME)
    ),
    'nextstrain/infra: tags, session name as variable, amr bounded': document(
      allow({
        StringEquals: {
          ...aud,
          [tag('repository')]: ['org/${sts:RoleSessionName}', 'org/${sts:RoleSessionName}-ingest', 'org/app'],
          [tag('actor')]: 'octocat'
        },
        StringLike: { [tag('ref')]: 'refs/heads/*' },
        'ForAllValues:StringLike': amr(['authenticated', 'login.example.app', `login.example.app:${POOL}:*`]),
        Null: amr('false')
      })
    ),
    'catnekaise/actions-constructs: repository and environment': document(
      allow({
        StringEquals: { ...aud, 'aws:requestTag/repository': 'org/app', 'aws:requestTag/environment': 'dev' },
        ...authenticated
      })
    ),
    'catnekaise/actions-constructs: environment only in names': document(
      allow({ StringEquals: aud, StringLike: { 'sts:RoleSessionName': 'app_*', [tag('repository')]: 'org/*' } })
    ),
    'catnekaise/actions-constructs: session name carries a tag': document(
      allow({ StringEquals: aud, StringLike: { 'sts:RoleSessionName': '*_${aws:requestTag/environment}' } })
    ),
    'catnekaise/actions-constructs: no pull requests': document(
      allow({ StringEquals: aud, StringNotLike: { [tag('ref')]: 'refs/pull/*' } })
    ),
    'GitHub by OIDC in amr': document(allow({ 'ForAnyValue:StringLike': amr(`${oidc}:OIDC:*`) })),
    'only tags that are known': document(
      allow({ StringEquals: aud, 'ForAllValues:StringEquals': { 'aws:TagKeys': ['repository', 'Environment', 'actor', 'ref'] } })
    ),
    'tags are required': document(allow({ StringEquals: aud, Null: { 'aws:TagKeys': 'false' } })),
    'one tag of several': document(
      allow({ 'ForAnyValue:StringEquals': { 'aws:TagKeys': ['repository'] }, Null: { 'aws:TagKeys': 'false' } })
    ),
    'members, but no tag that is not theirs': document(
      allow(member),
      deny({ 'ForAnyValue:StringNotEquals': { 'aws:TagKeys': ['repository', 'Environment', 'actor', 'ref'] } }, 'sts:TagSession')
    ),
    'members, not from production': document(allow(member), deny({ StringEquals: { 'aws:requestTag/environment': 'prod' } })),
    'members, without TagSession': document(allow(member, ASSUME), deny({ Null: { 'aws:TagKeys': 'true' } }, 'sts:TagSession')),
    'until a day': document(allow({ StringEquals: aud, DateLessThan: { 'aws:CurrentTime': '2026-06-30T23:59:59Z' } })),
    'until a day that is over': document(allow(member), deny({ DateGreaterThan: { 'aws:CurrentTime': '2026-01-01T00:00:00Z' } })),
    'encrypted transport': document(allow(member), deny({ Bool: { 'aws:SecureTransport': 'false' } })),
    'from a network': document(allow({ StringEquals: aud, IpAddress: { 'aws:SourceIp': ['10.0.0.0/8', '127.0.0.0/8'] } })),
    'not from a network': document(allow(member), deny({ NotIpAddress: { 'aws:SourceIp': ['203.0.113.0/24'] } })),
    'a region': document(allow({ StringEquals: { ...aud, 'aws:RequestedRegion': ['us-east-1', 'us-west-2'] } })),
    'break glass: denied to all': document(allow(member), { Effect: 'Deny', Principal: { AWS: '*' }, Action: 'sts:*' }),
    'one identity': document(allow({ StringLike: { [`${P}:sub`]: 'us-east-1:*' } })),
    'no such identity': document(allow({ StringEquals: { [`${P}:sub`]: 'us-east-1:00000000-0000-0000-0000-000000000000' } })),
    'users and a service': document(allow(member), {
      Effect: 'Allow',
      Principal: { Service: 'lambda.amazonaws.com' },
      Action: 'sts:AssumeRole'
    }),
    'users and an account': document(allow(member), {
      Effect: 'Allow',
      Principal: { AWS: 'arn:aws:iam::123456789012:root' },
      Action: 'sts:AssumeRole',
      Condition: {}
    }),
    'a typing error in the key': document(allow({ 'ForAnyValue:StringLike': { [`${P}:arm`]: 'authenticated' } })),
    'another issuer': document({
      ...allow({ StringEquals: { 'accounts.google.com:aud': 'app' } }),
      Principal: { Federated: 'accounts.google.com' }
    })
  }
  return Object.entries(shapes).map(([name, policy]) => ({ name: `published, ${name}`, policy }))
}

const TEXT = ['StringEquals', 'StringEqualsIgnoreCase', 'StringLike']
const ORDERED = ['Equals', 'NotEquals', 'LessThan', 'LessThanEquals', 'GreaterThan', 'GreaterThanEquals']
const QUALIFIERS = ['', 'ForAllValues:', 'ForAnyValue:']

// Operator, key and values of every combination.
function* conditions() {
  const text = TEXT.flatMap((name) => [name, name.replace('String', 'StringNot')])
  const cases = [
    [tag('environment'), ['dev', 'PROD']],
    [tag('REPOSITORY'), 'org/*'],
    [tag('repository'), 'org/?pp'],
    [`${P}:amr`, ['authenticated', 'login.example.app*']],
    [`${P}:AMR`, 'unauthenticated'],
    ['aws:TagKeys', ['repository', 'environment']],
    ['aws:PrincipalTag/none', 'x']
  ]
  const typed = [
    ...ORDERED.flatMap((order) =>
      [
        [tag('size'), '12'],
        [tag('size'), ['3', '12.5']],
        [tag('none'), '12'],
        [tag('repository'), '12'],
        ['aws:EpochTime', '1767323045']
      ].map((one) => [`Numeric${order}`, ...one])
    ),
    ...ORDERED.flatMap((order) =>
      [
        ['aws:CurrentTime', '2026-01-02T03:04:05Z'],
        ['aws:CurrentTime', ['2025-12-31', '2026-01-02T03:04:05Z']],
        [tag('when'), '2026-01-01T01:00:00+01:00'],
        [tag('when'), '2026-01'],
        [tag('none'), '2026-01-01T00:00:00Z'],
        [tag('repository'), '2026-01-01T00:00Z']
      ].map((one) => [`Date${order}`, ...one])
    ),
    ...[
      ['aws:SecureTransport', 'true'],
      ['aws:ViaAWSService', ['true', 'TRUE']],
      [tag('flag'), 'true'],
      [tag('none'), 'true'],
      [tag('repository'), 'false']
    ].map((one) => ['Bool', ...one]),
    ...[
      [tag('blob'), 'QmluYXJ5'],
      [tag('blob'), ['QQ==', 'QmluYXJ4']],
      [tag('none'), 'QmluYXJ5']
    ].map((one) => ['BinaryEquals', ...one]),
    ...['IpAddress', 'NotIpAddress'].flatMap((name) =>
      [
        ['aws:SourceIp', '127.0.0.0/8'],
        [tag('address'), ['10.1.2.0/30', '192.168.0.0/16']],
        [tag('address'), '10.1.2.3'],
        [tag('six'), '2001:db8::/32'],
        [tag('six'), ['10.0.0.0/8', '2001:db9::/32']],
        [tag('none'), '10.0.0.0/8'],
        [tag('repository'), '10.0.0.0/8']
      ].map((one) => [name, ...one])
    ),
    ...['ArnEquals', 'ArnLike', 'ArnNotEquals', 'ArnNotLike'].flatMap((name) =>
      [
        [tag('arn'), 'arn:aws:iam::123456789012:role/team/*'],
        [tag('arn'), ['arn:aws:iam::*:role/other', 'arn:aws:sts::123456789012:role/team/app']],
        [tag('arn'), 'arn:aws:*:*:123456789012:role/team/*'],
        [tag('none'), 'arn:aws:iam::123456789012:role/team/*'],
        [tag('repository'), 'arn:aws:iam::123456789012:role/team/*']
      ].map((one) => [name, ...one])
    )
  ]
  const every = [...text.flatMap((name) => cases.map((one) => [name, ...one])), ...typed]
  for (const [name, key, values] of every) {
    // All of text; of the others the qualifiers with one key, since they are the same machinery.
    const qualifiers = name.startsWith('String') || key === tag('size') || key === 'aws:SecureTransport' ? QUALIFIERS : ['']
    for (const qualifier of qualifiers) {
      for (const suffix of ['', 'IfExists']) yield [`${qualifier}${name}${suffix}`, key, values]
    }
  }
  for (const [key, value] of [
    ['aws:TagKeys', 'true'],
    ['aws:TagKeys', 'false'],
    [tag('environment'), 'true'],
    [tag('Environment'), 'false'],
    [`${P}:amr`, 'false'],
    ['aws:none', ['true', 'false']]
  ]) {
    yield ['Null', key, value]
  }
}

function generated() {
  const all = []
  let turn = 0
  for (const [operator, key, values] of conditions()) {
    const condition = { [operator]: { [key]: values } }
    const name = `${operator} of ${key} with ${JSON.stringify(values)}`
    // What it does in an Allow shows what it does in a Deny, but for what never holds: every third is asked as both.
    if (turn % 3 !== 1) all.push({ name: `allow, ${name}`, policy: document(allow(condition)) })
    if (turn % 3 !== 0) all.push({ name: `deny, ${name}`, policy: document(allow(undefined), deny(condition)) })
    turn += 1
  }
  return all.map(({ name, policy }) => ({ name, policy: JSON.parse(JSON.stringify(policy)) }))
}

function written() {
  const of = (name, ...statements) => ({ name, policy: document(...statements) })
  const everyone = { Effect: 'Allow', Principal: { AWS: '*' }, Action: 'sts:*' }
  const to = (Principal, rest = {}) => ({ Effect: 'Allow', Principal, Action: 'sts:*', ...rest })
  const but = (element) => [allow(undefined), { Effect: 'Deny', Action: 'sts:*', ...element }]
  const variable = (name, condition, version = '2012-10-17') => ({
    name: `variable, ${name}`,
    policy: { ...(version && { Version: version }), Statement: [allow(condition)] }
  })
  const dev = (values) => ({ StringLike: { [tag('environment')]: values } })
  const all = [
    of('principal, everyone', everyone),
    of('principal, one of two', to({ Federated: ['accounts.google.com', P] })),
    of('principal, beside an account', to({ AWS: '123456789012', Federated: P })),
    of('principal, another', to({ Federated: 'graph.facebook.com' })),
    of('principal, an account', to({ AWS: '123456789012' })),
    of('principal, a service', to({ Service: 'ec2.amazonaws.com' })),
    of('principal, everyone denied', ...but({ Principal: { AWS: '*' } })),
    of('principal, an account denied', ...but({ Principal: { AWS: '123456789012' } })),
    of('principal, another issuer denied', ...but({ Principal: { Federated: 'www.amazon.com' } })),
    of('principal, not another issuer denied', ...but({ NotPrincipal: { Federated: 'www.amazon.com' } })),
    of('principal, not this issuer denied', ...but({ NotPrincipal: { Federated: P } })),
    of('principal, not two issuers denied', ...but({ NotPrincipal: { Federated: [P, 'www.amazon.com'] } })),
    of('action, exactly', to({ Federated: P }, { Action: BOTH })),
    of('action, in another case', to({ Federated: P }, { Action: ['STS:assumerolewithwebidentity', 'Sts:tagsession'] })),
    of('action, with wildcards', to({ Federated: P }, { Action: ['sts:AssumeRole*', 'sts:Tag?ession'] })),
    of('action, without tags', to({ Federated: P }, { Action: ASSUME })),
    of('action, another', to({ Federated: P }, { Action: ['sts:AssumeRole', 'sts:TagSession'] })),
    of('action, not', to({ Federated: P }, { Action: undefined, NotAction: 'sts:AssumeRole' })),
    of('action, not this', to({ Federated: P }, { Action: undefined, NotAction: ['sts:TagSession', 'sts:SetSourceIdentity'] })),
    of('action, denied but one', allow(undefined), { Effect: 'Deny', Principal: { Federated: P }, NotAction: ASSUME }),
    of('action, tags denied', allow(undefined), { ...deny(undefined, 'sts:TagSession') }),
    of('order, a Deny before an Allow', deny({ StringEquals: { [tag('environment')]: 'prod' } }), allow(undefined)),
    of('order, two Allows', allow({ StringEquals: { [tag('environment')]: 'dev' } }), allow({ Null: { 'aws:TagKeys': 'true' } })),
    of('several, operators and keys in an and', allow({
      StringEquals: { ...aud, [tag('repository')]: ['org/app', 'org/other'] },
      StringLike: { 'sts:RoleSessionName': 'app*' }
    })),
    of('several, one of them not', allow({ StringEquals: { ...aud, [tag('repository')]: 'org/app', [tag('actor')]: 'x' } })),
    of('Boolean without quotes', allow({ Bool: { 'aws:SecureTransport': true } })),
    of('Null without quotes', allow({ Null: { 'aws:TagKeys': false } })),
    of('number without quotes', allow({ NumericLessThanEquals: { [tag('size')]: 12 } })),
    of('epoch, as a date', allow({ DateLessThan: { 'aws:CurrentTime': '1767323046' } })),
    of('epoch, as a date that is over', allow({ DateLessThan: { 'aws:CurrentTime': '1767323045' } })),
    of('epoch, the key as a date', allow({ DateLessThan: { 'aws:EpochTime': '2026-01-02T03:04:06Z' } })),
    of('network, every address', allow({ IpAddress: { 'aws:SourceIp': '0.0.0.0/0' } })),
    of('network, not an address of the other family', allow({ NotIpAddress: { 'aws:SourceIp': '2001:db8::1' } })),
    variable('a tag', { StringEquals: { 'sts:RoleSessionName': 'app_${aws:RequestTag/Environment}' } }),
    variable('a tag in another case', { StringEquals: { 'sts:RoleSessionName': 'app_${AWS:requesttag/ENVIRONMENT}' } }),
    variable('in StringLike', { StringLike: { [`${P}:sub`]: '${aws:RequestedRegion}:*' } }),
    variable('two of them', { StringNotLike: { [tag('repository')]: '${sts:RoleSessionName}/${aws:RequestTag/actor}' } }),
    variable('a default', dev("${aws:RequestTag/none, 'dev'}")),
    variable('a default that is not needed', { StringEquals: { [tag('environment')]: "${aws:RequestTag/environment, 'x'}" } }),
    variable('without a value', dev('${aws:RequestTag/none}')),
    variable('without a value, beside a wildcard', dev('${aws:RequestTag/none}*')),
    variable('without a value, negated', { StringNotEquals: { [tag('environment')]: '${aws:RequestTag/none}' } }),
    variable('without a value, negated, beside another', {
      StringNotLike: { [tag('environment')]: ['${aws:RequestTag/none}', 'prod'] }
    }),
    variable('without a value, but IfExists', { StringEqualsIfExists: { [tag('environment')]: '${aws:RequestTag/none}' } }),
    variable('of several values', dev('${aws:TagKeys}')),
    variable('a literal star', dev('d${*}v')),
    variable('a literal question mark', dev('de${?}')),
    variable('a literal dollar', { StringNotEquals: { [tag('environment')]: '${$}' } }),
    variable('in ArnLike', { ArnLike: { [tag('arn')]: 'arn:aws:iam::123456789012:role/team/${sts:RoleSessionName}' } }),
    variable('in a list', { 'ForAnyValue:StringLike': amr(['x', '*:${sts:RoleSessionName}']) }),
    variable('text in the version of 2008', { StringEquals: { 'sts:RoleSessionName': 'app_${aws:RequestTag/Environment}' } }, '2008-10-17'),
    variable('text without a version', { StringNotEquals: { 'sts:RoleSessionName': 'app_${aws:RequestTag/Environment}' } }, null)
  ]
  return all.map(({ name, policy }) => ({ name, policy: JSON.parse(JSON.stringify(policy)) }))
}

export function policies() {
  return [...published(), ...written(), ...generated()]
}

// What IAM does not save. As text where the text is the case.
export function malformed() {
  const of = (name, change) => {
    const policy = document(allow(member))
    change(policy.Statement[0], policy)
    return { name, policy: JSON.parse(JSON.stringify(policy)) }
  }
  const condition = (operator, values = { 'a:b': 'c' }) => (statement) => (statement.Condition = { [operator]: values })
  return [
    of('Conditions', (statement) => (statement.Conditions = {})),
    of('condition', (statement) => (statement.condition = {})),
    of('stringEquals', condition('stringEquals')),
    of('StringMatches', condition('StringMatches')),
    of('ForSomeValues', condition('ForSomeValues:StringEquals')),
    of('NullIfExists', condition('NullIfExists', { 'a:b': 'true' })),
    of('a condition that is a list', (statement) => (statement.Condition = [])),
    of('an operator without keys', condition('StringEquals', 'c')),
    of('a value that is an object', condition('StringEquals', { 'a:b': { c: 'd' } })),
    of('allow', (statement) => (statement.Effect = 'allow')),
    of('no effect', (statement) => delete statement.Effect),
    of('no principal', (statement) => delete statement.Principal),
    of('a star as principal', (statement) => (statement.Principal = '*')),
    of('a principal of an unknown kind', (statement) => (statement.Principal = { Fedrated: P })),
    of('an empty principal', (statement) => (statement.Principal = {})),
    of('Principal and NotPrincipal', (statement) => (statement.NotPrincipal = { AWS: '*' })),
    of('no action', (statement) => delete statement.Action),
    of('an empty list of actions', (statement) => (statement.Action = [])),
    of('Action and NotAction', (statement) => (statement.NotAction = 'sts:AssumeRole')),
    of('an action of another service', (statement) => (statement.Action = 's3:GetObject')),
    of('an action of another service beside', (statement) => (statement.Action = [ASSUME, 'iam:PassRole'])),
    of('a resource', (statement) => (statement.Resource = '*')),
    of('a Sid with a blank', (statement) => (statement.Sid = 'two words')),
    of('a Sid twice', (statement, policy) => {
      statement.Sid = 'A'
      policy.Statement.push({ ...statement })
    }),
    of('an unknown version', (_, policy) => (policy.Version = '2012-10-18')),
    of('a version that is a number', (_, policy) => (policy.Version = 2012)),
    of('an unknown member', (_, policy) => (policy.Statements = [])),
    of('no statement', (_, policy) => delete policy.Statement),
    of('a statement that is text', (_, policy) => (policy.Statement = 'x')),
    { name: 'a member twice', policy: '{"Version":"2012-10-17","Version":"2012-10-17","Statement":[]}' },
    { name: 'no JSON', policy: '{"Version":' }
  ]
}
