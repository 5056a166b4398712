//! What the functions of the shop share: requests and replies (`serve`), calls
//! of one function by another (`call`), the words they exchange (`words`), the
//! basket a visitor carries (`basket`), and what the host provides beside HTTP
//! (`host`). A function is then one file with the decisions only.

pub mod basket;
pub mod call;
pub mod host;
pub mod serve;
pub mod words;

pub use serve::{Reply, Request};
pub use wasi;

/// Makes `fn(&Request) -> Reply` the component's `wasi:http` handler.
#[macro_export]
macro_rules! function {
    ($answer:path) => {
        // `export!` names the bindings crate as if it were a dependency.
        use $crate::wasi;

        struct Function;

        impl $crate::wasi::exports::http::incoming_handler::Guest for Function {
            fn handle(
                request: $crate::wasi::http::types::IncomingRequest,
                out: $crate::wasi::http::types::ResponseOutparam,
            ) {
                $crate::serve::serve($answer, request, out);
            }
        }

        $crate::wasi::http::proxy::export!(Function);
    };
}
