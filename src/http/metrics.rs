//! `/metrics`: what is counted, for whoever scrapes it. Where there is a Functions host, nobody can: each of its instances counts for
//! itself, and calls reach any of them. So it is there in `serve` only, behind the operators' door.

use actix_web::{HttpRequest, HttpResponse};

use super::error::Problem;
use super::{Web, only_reads};
use crate::metrics::CONTENT_TYPE;

pub(super) async fn handle(request: &HttpRequest, web: &Web) -> Result<HttpResponse, Problem> {
    only_reads(request)?;
    let service = web.service()?;
    let text = service.run(|engine| async move { Ok(engine.measured().await) }).await?;
    Ok(HttpResponse::Ok().content_type(CONTENT_TYPE).body(text))
}
