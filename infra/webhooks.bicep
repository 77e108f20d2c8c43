// The second step: one webhook of the registry for each region, in the registry's resource group. The key exists once the app has run:
//   az deployment group create -g <registry's group> -f infra/webhooks.bicep -p registryName=<registry> regions=<regions> \
//     functionAppName=<app> functionAppGroup=<app's group>
targetScope = 'resourceGroup'

@description('Name of the registry, without .azurecr.io.')
param registryName string

@description('The registry\'s regions, comma-separated, as in WebhookRegions. Each must be the home region or a replica.')
@minLength(1)
param regions string

@description('Name of the function app.')
param functionAppName string

@description('Resource group of the function app.')
param functionAppGroup string = resourceGroup().name

@description('Subscription of the function app.')
param functionAppSubscription string = subscription().subscriptionId

@description('Which images: empty for all, else repository:tag, with * at the end.')
param imageScope string = ''

var names = [for region in split(regions, ','): toLower(replace(region, ' ', ''))]

resource registry 'Microsoft.ContainerRegistry/registries@2023-07-01' existing = {
  name: registryName
}

resource site 'Microsoft.Web/sites@2024-04-01' existing = {
  name: functionAppName
  scope: resourceGroup(functionAppSubscription, functionAppGroup)
}

resource webhooks 'Microsoft.ContainerRegistry/registries/webhooks@2023-07-01' = [
  for region in names: {
    parent: registry
    name: 'acrgw${region}'
    location: region
    tags: { 'managed-by': 'acr-global-webhook/acrgw' }
    properties: {
      serviceUri: 'https://${site.properties.defaultHostName}/api/ImagePush?region=${region}'
      // The key of this one function. In a header it stays out of URLs and access logs; who may read the registry's webhooks sees it.
      customHeaders: { 'x-functions-key': listKeys('${site.id}/functions/ImagePush', '2024-04-01').default }
      actions: ['push']
      scope: imageScope
      status: 'enabled'
    }
  }
]
