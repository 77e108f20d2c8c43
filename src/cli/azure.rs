//! How commands get at Azure Resource Manager, and at the registry that is named to them.

use std::sync::Arc;

use clap::ValueEnum;
use reqwest::Url;

use super::{complain, printable};
use crate::arm::plan::{Set, USUAL_PREFIX};
use crate::arm::registry::{self, Id, Registry};
use crate::arm::{Client, Credential, Error, Place};
use crate::clock::SystemClock;
use crate::config::Source;
use crate::config::storage::Identity;

/// Where the registry and its webhooks are, and who asks for them.
#[derive(clap::Args)]
pub(super) struct Access {
    /// Subscription of the registry, id or name [default: all that you can see are searched]
    #[arg(long)]
    subscription: Option<String>,
    /// Resource group of the registry
    #[arg(long, short = 'g')]
    resource_group: Option<String>,
    /// How the webhooks' names begin, followed by the region; another one for each service that uses the registry
    #[arg(long, default_value = USUAL_PREFIX)]
    prefix: String,
    /// Who asks: `cli` is the person signed in with `az login`, `managed-identity` the app this runs in; `auto` takes the
    /// identity where there is one
    #[arg(long, value_enum, default_value_t = Who::Auto)]
    credential: Who,
    /// Client id of a user-assigned managed identity [default: AZURE_CLIENT_ID of the environment]
    #[arg(long)]
    client_id: Option<String>,
    /// Which Azure
    #[arg(long, value_enum, default_value_t = Place::Public)]
    cloud: Place,
    /// Address of Azure Resource Manager, if it is another one than the cloud's
    #[arg(long)]
    arm_endpoint: Option<Url>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Who {
    Auto,
    Cli,
    ManagedIdentity,
}

impl Access {
    /// The webhooks of one service.
    pub(super) fn set(&self) -> Result<Set, String> {
        Set::of(&self.prefix).map_err(|why| format!("--prefix: {why}"))
    }

    /// The registry of this name, login server or resource id.
    pub(super) fn registry(&self, text: &str) -> Result<RegistryName, String> {
        let (subscription, group) = (self.subscription.clone(), self.resource_group.clone());
        let wrong = |why: String| format!("--registry {why}");
        if !text.starts_with('/') {
            let name = registry::name(text).map_err(wrong)?.to_owned();
            return Ok(RegistryName::Short { name, subscription, group });
        }
        if subscription.is_some() || group.is_some() {
            return Err("--registry is an id, which names subscription and resource group already".into());
        }
        Ok(RegistryName::Full(text.parse().map_err(wrong)?))
    }

    /// Calls to ARM, in the tenant of --subscription, else of `subscription`.
    pub(super) fn client(&self, subscription: Option<&str>, environment: &Source) -> Result<Client, String> {
        let subscription = self.subscription.as_deref().or(subscription);
        let credential = self.credential(subscription, environment)?;
        let notice = |text: &str| complain(&printable(text));
        Client::new(self.cloud, self.arm_endpoint.as_ref(), credential, Arc::new(SystemClock), notice)
            .map_err(|why| format!("--arm-endpoint: {why}"))
    }

    /// Who asks ARM, by what the command line and the environment say.
    fn credential(&self, subscription: Option<&str>, environment: &Source) -> Result<Credential, String> {
        let offered = environment.get("IDENTITY_ENDPOINT").zip(environment.get("IDENTITY_HEADER"));
        match (self.credential, offered) {
            (Who::ManagedIdentity, None) => Err("there is no managed identity here: Azure sets IDENTITY_ENDPOINT and \
                 IDENTITY_HEADER once the app has one"
                .into()),
            (Who::ManagedIdentity | Who::Auto, Some((endpoint, header))) => {
                Url::parse(endpoint).map_err(|_| "IDENTITY_ENDPOINT is no URL; Azure sets it, leave it alone")?;
                let client_id = self.client_id.as_deref().or_else(|| environment.get("AZURE_CLIENT_ID"));
                let (client_id, endpoint, header) =
                    (client_id.map(str::to_owned), endpoint.to_owned(), header.to_owned());
                Ok(Credential::Managed(Identity { client_id, endpoint, header }))
            }
            (Who::Cli | Who::Auto, _) => Ok(Credential::Cli { subscription: subscription.map(str::to_owned) }),
        }
    }
}

/// A registry as the command line names it.
pub(super) enum RegistryName {
    /// Its resource id.
    Full(Id),
    /// Its name, and where to look for it.
    Short { name: String, subscription: Option<String>, group: Option<String> },
}

impl RegistryName {
    /// Subscription that it is in, as far as its name says.
    pub(super) fn subscription(&self) -> Option<&str> {
        match self {
            Self::Full(id) => Some(&id.subscription),
            Self::Short { .. } => None,
        }
    }

    /// Finds and reads it.
    pub(super) async fn read(&self, client: &Client) -> Result<Registry, Error> {
        let id = match self {
            Self::Full(id) => id.clone(),
            Self::Short { name, subscription, group } => {
                registry::find(client, name, subscription.as_deref(), group.as_deref()).await?
            }
        };
        registry::read(client, &id).await
    }
}
