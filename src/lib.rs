#![cfg_attr(docsrs, feature(doc_cfg))]

//! Load shedding for tower.

pub mod control;

mod body;
mod budget;
mod future;
mod handle;
mod invalid;
mod layer;
mod refuse;
mod retry_after;
mod service;
mod shed;
mod sync;
mod threshold;

pub use self::{
    body::ResponseBody,
    budget::{Budget, Permit, Snapshot},
    control::Adaptive,
    future::ResponseFuture,
    handle::Handle,
    invalid::InvalidSetting,
    layer::LoadShed,
    retry_after::RetryAfter,
    service::LoadShedService,
    shed::{Reason, Shed},
    threshold::{Criticality, Threshold},
};
