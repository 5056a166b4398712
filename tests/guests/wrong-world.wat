;; A valid component that is no function: it exports an adder and knows nothing
;; of wasi:http.
(component
  (core module $adder
    (func (export "add") (param i32 i32) (result i32)
      local.get 0
      local.get 1
      i32.add))
  (core instance $adder (instantiate $adder))
  (func (export "add") (param "a" u32) (param "b" u32) (result u32)
    (canon lift (core func $adder "add"))))
