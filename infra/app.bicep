// The function app on Flex Consumption: HTTP calls and timers run in instances of their own.

@description('Name of the function app.')
param name string

@description('Azure region.')
param location string

@description('Tags of all resources.')
param tags object

@description('Resource id of the app\'s identity.')
param identityId string

@description('Client id of the app\'s identity.')
param identityClientId string

@description('The app\'s storage account.')
param storageAccountName string

@description('Container that the package is put into.')
param packageContainerUrl string

@description('Connection string of Application Insights.')
param insightsConnectionString string

@description('Instances that are always ready for HTTP.')
param alwaysReadyHttpInstances int

@description('Memory of an instance in MB.')
param instanceMemoryMB int

@description('Most instances for each of HTTP and timers.')
param maximumInstanceCount int

@description('Instances in several zones.')
param zoneRedundant bool

@description('Settings of the service, by name.')
@secure()
param settings object

// The runtime stands in functionAppConfig: this plan refuses FUNCTIONS_WORKER_RUNTIME.
var platform = {
  AzureWebJobsStorage__accountName: storageAccountName
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identityClientId
  APPLICATIONINSIGHTS_CONNECTION_STRING: insightsConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
}

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: 'plan-${name}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { tier: 'FlexConsumption', name: 'FC1' }
  properties: {
    reserved: true
    zoneRedundant: zoneRedundant
  }
}

resource site 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  tags: tags
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    // With it the app may read secrets that settings refer to, where the vault lets it.
    keyVaultReferenceIdentity: identityId
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageContainerUrl
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      runtime: { name: 'custom', version: '1.0' }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        alwaysReady: alwaysReadyHttpInstances == 0 ? [] : [{ name: 'http', instanceCount: alwaysReadyHttpInstances }]
        // One instance takes far more than this; every further one begins cold, and the registry does not wait for it.
        triggers: { http: { perInstanceConcurrency: 200 } }
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      appSettings: [for setting in items(union(settings, platform)): { name: setting.key, value: setting.value }]
    }
  }
}

// Passwords for publishing; identities publish without.
resource ftp 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: site
  name: 'ftp'
  properties: { allow: false }
}

resource scm 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: site
  name: 'scm'
  properties: { allow: false }
}

@description('Name of the function app.')
output name string = site.name

@description('Its host name.')
output hostName string = site.properties.defaultHostName
