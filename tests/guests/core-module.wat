;; A core module, as `wasm32-unknown-unknown` and wasi preview 1 make them: valid
;; WebAssembly, not a component.
(module
  (memory (export "memory") 1)
  (func (export "_start")))
