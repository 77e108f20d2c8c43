// The app's own storage account: rows, timers, the host's blobs and the deployed package. No shared key opens it.

@description('Name of the storage account.')
param name string

@description('Azure region.')
param location string

@description('Tags of all resources.')
param tags object

@description('Object id of the app\'s identity, which gets the roles.')
param principalId string

@description('Copies in several zones of the region.')
param zoneRedundant bool

// Storage Queue Data Contributor: arm, move and read timers.
// Storage Table Data Contributor: rows.
// Storage Blob Data Owner: the Functions host's own blobs, and the package.
var roles = [
  '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
  'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
]

resource account 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: zoneRedundant ? 'Standard_ZRS' : 'Standard_LRS' }
  properties: {
    allowSharedKeyAccess: false
    allowBlobPublicAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    // docs/security.md says how to close it.
    publicNetworkAccess: 'Enabled'
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' = {
  parent: account
  name: 'default'
}

resource packages 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: blobs
  name: 'packages'
}

resource queues 'Microsoft.Storage/storageAccounts/queueServices@2024-01-01' = {
  parent: account
  name: 'default'
}

// The name in TimeoutCheck/function.json. The service makes it too, but a trigger that finds no queue looks ever more seldom.
resource timers 'Microsoft.Storage/storageAccounts/queueServices/queues@2024-01-01' = {
  parent: queues
  name: 'global-webhook-timers'
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices@2024-01-01' = {
  parent: account
  name: 'default'
}

resource assignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in roles: {
    scope: account
    name: guid(account.id, principalId, role)
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
    }
  }
]

@description('Name of the storage account.')
output name string = account.name

@description('Where the package is put.')
output packageContainerUrl string = '${account.properties.primaryEndpoints.blob}${packages.name}'
