// Where the log goes: Application Insights on a workspace of its own, which only identities may write to.

@description('Ending of the names.')
param suffix string

@description('Azure region.')
param location string

@description('Tags of all resources.')
param tags object

@description('Object id of the app\'s identity, which may write.')
param principalId string

// Monitoring Metrics Publisher
var role = '3913510d-42f4-4e42-8a64-420c390055eb'

resource workspace 'Microsoft.OperationalInsights/workspaces@2023-09-01' = {
  name: 'log-global-webhook-${suffix}'
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: 30
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-global-webhook-${suffix}'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true
  }
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: insights
  name: guid(insights.id, principalId, role)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
  }
}

@description('Where to send telemetry. It opens nothing, since local authentication is off.')
output connectionString string = insights.properties.ConnectionString

@description('Id of the workspace, which the alerts ask.')
output workspaceId string = workspace.id
