;; A component that wants an interface which no host of wasi:http offers.
(component
  (import "example:weather/forecast@1.0.0" (instance
    (export "tomorrow" (func (result string))))))
