// The function app and all it needs, in one resource group: `azd up`, or
//   az deployment group create -g <group> -f infra/main.bicep -p environmentName=<name> webhookRegions=<regions>
// The registry's webhooks are a second step, infra/webhooks.bicep: their key exists only once the app has run.
targetScope = 'resourceGroup'

@description('Name of this installation; names of the resources follow from it. One storage account for each, so two installations never share timers.')
@minLength(1)
@maxLength(32)
param environmentName string

@description('Azure region of the app. A replica of the registry there does not matter: webhooks come over the public network either way.')
param location string = resourceGroup().location

@description('Setting WebhookRegions: the registry\'s regions, comma-separated.')
@minLength(1)
param webhookRegions string

@description('Setting WebhookTimeout: how long a push waits for its regions, as days.hours:minutes:seconds. A bare number is days.')
param webhookTimeout string = '0:02:00'

@description('Setting WebhookTargetUrl: the one receiver of a simple installation. For more, or one with a secret, webhookTargets.')
@secure()
param webhookTargetUrl string = ''

@description('Setting WebhookTargets: the receivers, as JSON. A Key Vault reference rather than the text itself, which holds secrets; azd cannot pass the text, because of its quotes.')
@secure()
param webhookTargets string = ''

@description('Further settings of docs/settings.md by name, such as {"WebhookRules": "[…]", "WebhookRetention": "7"}. For secrets use Key Vault references.')
@secure()
param furtherSettings object = {}

// One instance that is always there costs about 5 USD a month with 512 MB (0.5 GB x 2 628 000 s x 0.000004 USD). Without it the first
// webhook after a pause waits for an instance; the registry gives up after 5 s and never sends it again, and the push times out.
@description('Instances that are always ready for HTTP. 0 saves their price and loses webhooks: the registry waits 5 s and never tries again.')
@minValue(0)
@maxValue(20)
param alwaysReadyHttpInstances int = 1

@description('Memory of an instance in MB.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 512

@description('Most instances for each of HTTP and timers.')
@minValue(40)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Plan and storage spread over the zones of the region, where it has some; always-ready instances are then at least two.')
param zoneRedundant bool = false

@description('Where alerts are sent; without it they are only shown in the portal.')
param alertEmail string = ''

var suffix = uniqueString(resourceGroup().id, environmentName)
var tags = { 'azd-env-name': environmentName }

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-global-webhook-${suffix}'
  location: location
  tags: tags
}

module storage 'storage.bicep' = {
  name: 'global-webhook-storage'
  params: {
    name: 'gwh${suffix}'
    location: location
    tags: tags
    principalId: identity.properties.principalId
    zoneRedundant: zoneRedundant
  }
}

module monitoring 'monitoring.bicep' = {
  name: 'global-webhook-monitoring'
  params: {
    suffix: suffix
    location: location
    tags: tags
    principalId: identity.properties.principalId
  }
}

module app 'app.bicep' = {
  name: 'global-webhook-app'
  params: {
    name: 'global-webhook-${suffix}'
    location: location
    tags: tags
    identityId: identity.id
    identityClientId: identity.properties.clientId
    storageAccountName: storage.outputs.name
    packageContainerUrl: storage.outputs.packageContainerUrl
    insightsConnectionString: monitoring.outputs.connectionString
    alwaysReadyHttpInstances: zoneRedundant && alwaysReadyHttpInstances == 1 ? 2 : alwaysReadyHttpInstances
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    zoneRedundant: zoneRedundant
    settings: union({
      WebhookRegions: webhookRegions
      WebhookTimeout: webhookTimeout
      WebhookTargetUrl: webhookTargetUrl
      WebhookTargets: webhookTargets
    }, furtherSettings)
  }
}

module alerts 'alerts.bicep' = {
  name: 'global-webhook-alerts'
  params: {
    suffix: suffix
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
    email: alertEmail
  }
}

@description('Name of the function app, for publishing and for infra/webhooks.bicep.')
output AZURE_FUNCTION_APP_NAME string = app.outputs.name

@description('Where the registry sends its webhooks.')
output AZURE_IMAGE_PUSH_URL string = 'https://${app.outputs.hostName}/api/ImagePush'

@description('Resource group of the app.')
output AZURE_RESOURCE_GROUP string = resourceGroup().name
