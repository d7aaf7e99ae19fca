//! `zonectl heat`.

use proto::v1;

use super::Context;
use crate::{arguments::HeatArguments, failure::Failure, forms::HeatForm, heat};

pub async fn run(context: &Context, arguments: &HeatArguments) -> Result<(), Failure> {
    let request = v1::GetHeatRequest { top: arguments.top };
    let form = HeatForm::from(context.admin()?.get_heat(request).await?);
    context.show(&form, heat::text)
}
