// What somebody must know. Each rule looks for lines of the service's log every five minutes; what to do stands in
// docs/operations.md under the rule's name. A rule costs about 1.50 USD a month.

@description('Ending of the names.')
param suffix string

@description('Azure region.')
param location string

@description('Tags of all resources.')
param tags object

@description('Id of the workspace with the log.')
param workspaceId string

@description('Where alerts are sent; empty for nowhere.')
param email string

var rules = [
  {
    name: 'timed-out'
    severity: 2
    description: 'A push is not in all regions: some have not reported within WebhookTimeout.'
    query: '''
      AppTraces
      | where Message has 'a push is not in all regions'
      | extend line = parse_json(Message)
      | project TimeGenerated, push = line['push.id'], image = line.image, missing = line.missing
    '''
  }
  {
    name: 'exhausted'
    severity: 1
    description: 'A receiver was not told: all attempts at a notification failed.'
    query: '''
      AppTraces
      | where Message has 'a notification was given up'
      | extend line = parse_json(Message)
      | project TimeGenerated, push = line['push.id'], image = line.image, to = line.target, reason = line.reason
    '''
  }
  {
    name: 'refused'
    severity: 1
    description: 'A webhook of the registry was turned away, and the registry will not send it again.'
    query: '''
      AppTraces
      | where Message has_any ('webhook refused', 'arrival refused', 'the settings cannot be used')
      | extend line = parse_json(Message)
      | project TimeGenerated, reason = line.reason, image = line.image, region = line.region, text = line.message
    '''
  }
  {
    name: 'poison'
    severity: 2
    description: 'A message that is not this service\'s was put into the poison queue.'
    query: '''
      AppTraces
      | where Message has_any ('moved to the poison queue', 'copied to the poison queue', 'global-webhook-timers-poison')
      | project TimeGenerated, Message
    '''
  }
  {
    name: 'operator-needed'
    severity: 1
    description: 'The storage cannot work like this: a right, a key or a firewall is wrong, and waiting does not mend it.'
    query: '''
      AppTraces
      | where Message has_any ('until somebody acts', 'until an operator has mended it')
      | project TimeGenerated, Message
    '''
  }
]

resource group 'Microsoft.Insights/actionGroups@2023-01-01' = if (!empty(email)) {
  name: 'ag-global-webhook-${suffix}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'globwebhook'
    enabled: true
    emailReceivers: [{ name: 'operators', emailAddress: email, useCommonAlertSchema: true }]
  }
}

resource alerts 'Microsoft.Insights/scheduledQueryRules@2022-06-15' = [
  for rule in rules: {
    name: 'global-webhook-${rule.name}-${suffix}'
    location: location
    tags: tags
    kind: 'LogAlert'
    properties: {
      displayName: 'global-webhook ${rule.name}'
      description: rule.description
      severity: rule.severity
      enabled: true
      scopes: [workspaceId]
      evaluationFrequency: 'PT5M'
      // Longer than the pause between two looks: lines take some minutes to arrive.
      windowSize: 'PT15M'
      criteria: {
        allOf: [
          {
            query: rule.query
            timeAggregation: 'Count'
            operator: 'GreaterThan'
            threshold: 0
            failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
          }
        ]
      }
      // Not one alert that lasts while more goes wrong: each quarter of an hour with such lines is told anew.
      autoMitigate: false
      muteActionsDuration: 'PT15M'
      // A new workspace has no such table until the first line comes.
      skipQueryValidation: true
      actions: { actionGroups: empty(email) ? [] : [group.id] }
    }
  }
]
