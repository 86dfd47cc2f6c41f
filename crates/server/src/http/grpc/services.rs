//! The small calls: what the server and the model are, whether they are well, and what methods there are.

use std::sync::Arc;

use axum::Router;
use tokio_stream::Empty;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::MESSAGE_BYTES_MAX;
use super::generated::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use super::generated::model_metadata_response::TensorMetadata;
use super::generated::{
    ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse, ServerLiveRequest,
    ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest,
    ServerReadyResponse,
};
use crate::app::App;
use crate::http::oip;
use crate::wire::oip::MODEL_VERSION;

/// What reflection shows of `inference.GRPCInferenceService`.
const DESCRIPTOR: &[u8] = include_bytes!("descriptor.bin");
/// The services that health knows by name.
const SERVICES: [&str; 2] = ["", "inference.GRPCInferenceService"];

/// All small calls.
pub(super) fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    let inference = GrpcInferenceServiceServer::new(Calls(Arc::clone(app)));
    let health = HealthServer::new(Calls(Arc::clone(app)));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let sound = "the descriptors are those of this binary";
    let v1 = reflection().build_v1().expect(sound);
    let v1alpha = reflection().build_v1alpha().expect(sound);
    Router::new()
        .route_service(
            "/inference.GRPCInferenceService/{method}",
            inference.max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .route_service(
            "/grpc.health.v1.Health/{method}",
            health.max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .route_service(
            "/grpc.reflection.v1.ServerReflection/{method}",
            v1.max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .route_service(
            "/grpc.reflection.v1alpha.ServerReflection/{method}",
            v1alpha.max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
}

/// Those that ask whether the server is well, and none else.
pub(super) fn probes(app: &Arc<App>) -> Router<Arc<App>> {
    let inference = GrpcInferenceServiceServer::new(Calls(Arc::clone(app)));
    let inference = inference.max_decoding_message_size(MESSAGE_BYTES_MAX);
    let health = HealthServer::new(Calls(Arc::clone(app)));
    Router::new()
        .route_service("/inference.GRPCInferenceService/ServerLive", inference.clone())
        .route_service("/inference.GRPCInferenceService/ServerReady", inference)
        .route_service(
            "/grpc.health.v1.Health/Check",
            health.max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
}

struct Calls(Arc<App>);

impl Calls {
    fn check(&self, model: &str, version: &str) -> Result<(), Status> {
        oip::check_model(&self.0, model, version)
            .map_err(|error| Status::new(Code::NotFound, error.to_string()))
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Calls {
    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        let ready = self.0.unready().is_none();
        Ok(Response::new(ServerReadyResponse { ready }))
    }

    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let asked = request.get_ref();
        self.check(&asked.name, &asked.version)?;
        let ready = self.0.unready().is_none();
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        // The extension is one of the JSON form.
        Ok(Response::new(ServerMetadataResponse {
            name: "plimsoll".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: Vec::new(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let asked = request.get_ref();
        self.check(&asked.name, &asked.version)?;
        let tensor = |(name, datatype, shape, rank): oip::Tensor| TensorMetadata {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: shape[..rank].to_vec(),
        };
        let abilities = &self.0.abilities;
        Ok(Response::new(ModelMetadataResponse {
            name: self.0.model_name.to_string(),
            versions: vec![MODEL_VERSION.to_owned()],
            platform: "plimsoll".to_owned(),
            inputs: oip::inputs(abilities).map(tensor).collect(),
            outputs: oip::outputs(abilities).map(tensor).collect(),
        }))
    }
}

#[tonic::async_trait]
impl Health for Calls {
    type WatchStream = Empty<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !SERVICES.contains(&&*request.get_ref().service) {
            return Err(Status::not_found("there is no such service"));
        }
        let status = match self.0.unready() {
            Some(_) => ServingStatus::NotServing,
            None => ServingStatus::Serving,
        };
        Ok(Response::new(HealthCheckResponse {
            status: status as i32,
        }))
    }

    /// A watch would hold its connection's place for ever; the protocol lets a server decline, and its clients then take it as well.
    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("ask with Check"))
    }
}
