;; A guest that keeps handles and tries others: what it asks for is in the path.
;;
;;   /k    keeps its request, the headers, the body, the body's stream and a pollable of that, fields of its own, stdout
;;   /w    keeps a body that it has not finished
;;   /m    keeps four hundred fields
;;   /Xnn  uses the handle number nn, though nobody gave it that, for what X says (see `use`)
;;
;; The answer is everything that the host told it meanwhile, byte by byte; "mine" where nn is a handle that it was given.
(component
  (import "wasi:io/poll@0.2.4" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:io/error@0.2.4" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $io-error))
  (import "wasi:io/streams@0.2.4" (instance $streams
    (alias outer 1 $pollable (type $outer-pollable))
    (export "pollable" (type $pollable (eq $outer-pollable)))
    (alias outer 1 $io-error (type $outer-error))
    (export "error" (type $io-error (eq $outer-error)))
    (type $stream-error-is (variant (case "last-operation-failed" (own $io-error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $stream-error-is)))
    (export "input-stream" (type $input (sub resource)))
    (export "output-stream" (type $output (sub resource)))
    (export "[method]input-stream.blocking-read"
      (func (param "self" (borrow $input)) (param "len" u64) (result (result (list u8) (error $stream-error)))))
    (export "[method]input-stream.subscribe" (func (param "self" (borrow $input)) (result (own $pollable))))
    (export "[method]output-stream.subscribe" (func (param "self" (borrow $output)) (result (own $pollable))))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $output)) (param "contents" (list u8)) (result (result (error $stream-error)))))))
  (alias export $streams "input-stream" (type $input))
  (alias export $streams "output-stream" (type $output))
  (import "wasi:cli/stdout@0.2.4" (instance $stdout
    (alias outer 1 $output (type $outer-output))
    (export "output-stream" (type $output (eq $outer-output)))
    (export "get-stdout" (func (result (own $output))))))
  (import "wasi:http/types@0.2.4" (instance $types
    (alias outer 1 $input (type $outer-input))
    (export "input-stream" (type $input (eq $outer-input)))
    (alias outer 1 $output (type $outer-output))
    (export "output-stream" (type $output (eq $outer-output)))
    (type $dns-is (record (field "rcode" (option string)) (field "info-code" (option u16))))
    (export "DNS-error-payload" (type $dns (eq $dns-is)))
    (type $tls-is (record (field "alert-id" (option u8)) (field "alert-message" (option string))))
    (export "TLS-alert-received-payload" (type $tls (eq $tls-is)))
    (type $size-is (record (field "field-name" (option string)) (field "field-size" (option u32))))
    (export "field-size-payload" (type $size (eq $size-is)))
    (type $error-code-is (variant
      (case "DNS-timeout") (case "DNS-error" $dns) (case "destination-not-found") (case "destination-unavailable")
      (case "destination-IP-prohibited") (case "destination-IP-unroutable") (case "connection-refused")
      (case "connection-terminated") (case "connection-timeout") (case "connection-read-timeout")
      (case "connection-write-timeout") (case "connection-limit-reached") (case "TLS-protocol-error")
      (case "TLS-certificate-error") (case "TLS-alert-received" $tls) (case "HTTP-request-denied")
      (case "HTTP-request-length-required") (case "HTTP-request-body-size" (option u64))
      (case "HTTP-request-method-invalid") (case "HTTP-request-URI-invalid") (case "HTTP-request-URI-too-long")
      (case "HTTP-request-header-section-size" (option u32)) (case "HTTP-request-header-size" (option $size))
      (case "HTTP-request-trailer-section-size" (option u32)) (case "HTTP-request-trailer-size" $size)
      (case "HTTP-response-incomplete") (case "HTTP-response-header-section-size" (option u32))
      (case "HTTP-response-header-size" $size) (case "HTTP-response-body-size" (option u64))
      (case "HTTP-response-trailer-section-size" (option u32)) (case "HTTP-response-trailer-size" $size)
      (case "HTTP-response-transfer-coding" (option string)) (case "HTTP-response-content-coding" (option string))
      (case "HTTP-response-timeout") (case "HTTP-upgrade-failed") (case "HTTP-protocol-error") (case "loop-detected")
      (case "configuration-error") (case "internal-error" (option string))))
    (export "error-code" (type $error-code (eq $error-code-is)))
    (export "fields" (type $fields (sub resource)))
    (export "incoming-request" (type $request (sub resource)))
    (export "incoming-body" (type $body (sub resource)))
    (export "outgoing-response" (type $response (sub resource)))
    (export "outgoing-body" (type $answer (sub resource)))
    (export "response-outparam" (type $out (sub resource)))
    (export "[method]incoming-request.path-with-query" (func (param "self" (borrow $request)) (result (option string))))
    (export "[method]incoming-request.headers" (func (param "self" (borrow $request)) (result (own $fields))))
    (export "[method]incoming-request.consume" (func (param "self" (borrow $request)) (result (result (own $body)))))
    (export "[method]incoming-body.stream" (func (param "self" (borrow $body)) (result (result (own $input)))))
    (export "[constructor]fields" (func (result (own $fields))))
    (export "[method]fields.entries"
      (func (param "self" (borrow $fields)) (result (list (tuple string (list u8))))))
    (export "[constructor]outgoing-response" (func (param "headers" (own $fields)) (result (own $response))))
    (export "[method]outgoing-response.body" (func (param "self" (borrow $response)) (result (result (own $answer)))))
    (export "[method]outgoing-body.write" (func (param "self" (borrow $answer)) (result (result (own $output)))))
    (export "[static]outgoing-body.finish"
      (func (param "this" (own $answer)) (param "trailers" (option (own $fields))) (result (result (error $error-code)))))
    (export "[static]response-outparam.set"
      (func (param "param" (own $out)) (param "response" (result (own $response) (error $error-code)))))))
  (alias export $types "fields" (type $fields))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "incoming-body" (type $body))
  (alias export $types "response-outparam" (type $out))

  ;; What the host tells is put one after the other, from `begin` on.
  (core module $told-module
    (memory (export "memory") 4)
    (global $end (mut i32) (i32.const 1024))
    (func (export "realloc") (param $old i32) (param $from i32) (param $align i32) (param $to i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $end) (i32.const 7)) (i32.const -8)))
      (global.set $end (i32.add (local.get $at) (local.get $to)))
      (local.get $at))
    (func (export "forget")
      (memory.fill (i32.const 0) (i32.const 0) (i32.const 65536))
      (global.set $end (i32.const 1024)))
    (func (export "bytes") (result i32) (i32.sub (global.get $end) (i32.const 1024))))
  (core instance $told (instantiate $told-module))
  (alias core export $told "memory" (core memory $memory))
  (alias core export $told "realloc" (core func $realloc))

  (core func $path (canon lower (func $types "[method]incoming-request.path-with-query") (memory $memory) (realloc $realloc)))
  (core func $headers (canon lower (func $types "[method]incoming-request.headers")))
  (core func $consume (canon lower (func $types "[method]incoming-request.consume") (memory $memory)))
  (core func $stream (canon lower (func $types "[method]incoming-body.stream") (memory $memory)))
  (core func $new-fields (canon lower (func $types "[constructor]fields")))
  (core func $entries (canon lower (func $types "[method]fields.entries") (memory $memory) (realloc $realloc)))
  (core func $new-response (canon lower (func $types "[constructor]outgoing-response")))
  (core func $response-body (canon lower (func $types "[method]outgoing-response.body") (memory $memory)))
  (core func $body-write (canon lower (func $types "[method]outgoing-body.write") (memory $memory)))
  (core func $finish (canon lower (func $types "[static]outgoing-body.finish") (memory $memory) (realloc $realloc)))
  (core func $set (canon lower (func $types "[static]response-outparam.set") (memory $memory) (realloc $realloc)))
  (core func $read (canon lower (func $streams "[method]input-stream.blocking-read") (memory $memory) (realloc $realloc)))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
  (core func $subscribe-input (canon lower (func $streams "[method]input-stream.subscribe")))
  (core func $subscribe-output (canon lower (func $streams "[method]output-stream.subscribe")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $drop-fields (canon resource.drop $fields))
  (core func $drop-request (canon resource.drop $request))
  (core func $drop-body (canon resource.drop $body))
  (core func $drop-input (canon resource.drop $input))
  (core func $drop-output (canon resource.drop $output))
  (core func $drop-pollable (canon resource.drop $pollable))

  (core module $main-module
    (import "told" "memory" (memory 4))
    (import "told" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
    (import "told" "forget" (func $forget))
    (import "told" "bytes" (func $bytes (result i32)))
    (import "host" "path" (func $path (param i32 i32)))
    (import "host" "headers" (func $headers (param i32) (result i32)))
    (import "host" "consume" (func $consume (param i32 i32)))
    (import "host" "stream" (func $stream (param i32 i32)))
    (import "host" "new-fields" (func $new-fields (result i32)))
    (import "host" "entries" (func $entries (param i32 i32)))
    (import "host" "new-response" (func $new-response (param i32) (result i32)))
    (import "host" "response-body" (func $response-body (param i32 i32)))
    (import "host" "body-write" (func $body-write (param i32 i32)))
    (import "host" "finish" (func $finish (param i32 i32 i32 i32)))
    (import "host" "set" (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (import "host" "read" (func $read (param i32 i64 i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (import "host" "subscribe-input" (func $subscribe-input (param i32) (result i32)))
    (import "host" "subscribe-output" (func $subscribe-output (param i32) (result i32)))
    (import "host" "block" (func $block (param i32)))
    (import "host" "get-stdout" (func $get-stdout (result i32)))
    (import "host" "drop-fields" (func $drop-fields (param i32)))
    (import "host" "drop-request" (func $drop-request (param i32)))
    (import "host" "drop-body" (func $drop-body (param i32)))
    (import "host" "drop-input" (func $drop-input (param i32)))
    (import "host" "drop-output" (func $drop-output (param i32)))
    (import "host" "drop-pollable" (func $drop-pollable (param i32)))

    ;; Results are returned at 16. A stream of a request's body, by way of its body.
    (func $stream-of (param $request i32) (result i32)
      (call $consume (local.get $request) (i32.const 16))
      (call $stream (i32.load (i32.const 20)) (i32.const 16))
      (i32.load (i32.const 20)))

    (func $keep (param $request i32)
      (drop (call $headers (local.get $request)))
      (drop (call $subscribe-input (call $stream-of (local.get $request))))
      (drop (call $new-fields))
      (drop (call $get-stdout)))

    (func $keep-many (local $left i32)
      (local.set $left (i32.const 400))
      (loop
        (drop (call $new-fields))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if 0 (local.get $left))))

    (func $keep-unfinished
      (call $response-body (call $new-response (call $new-fields)) (i32.const 16)))

    (func $use (param $what i32) (param $handle i32)
      (if (i32.eq (local.get $what) (i32.const 102)) (then ;; f
        (call $entries (local.get $handle) (i32.const 16)) (return)))
      (if (i32.eq (local.get $what) (i32.const 112)) (then ;; p
        (call $path (local.get $handle) (i32.const 16)) (return)))
      (if (i32.eq (local.get $what) (i32.const 104)) (then ;; h
        (call $entries (call $headers (local.get $handle)) (i32.const 16)) (return)))
      (if (i32.eq (local.get $what) (i32.const 99)) (then ;; c
        (call $read (call $stream-of (local.get $handle)) (i64.const 1000) (i32.const 16)) (return)))
      (if (i32.eq (local.get $what) (i32.const 98)) (then ;; b
        (call $stream (local.get $handle) (i32.const 16))
        (call $read (i32.load (i32.const 20)) (i64.const 1000) (i32.const 16)) (return)))
      (if (i32.eq (local.get $what) (i32.const 105)) (then ;; i
        (call $read (local.get $handle) (i64.const 1000) (i32.const 16)) (return)))
      (if (i32.eq (local.get $what) (i32.const 111)) (then ;; o
        (call $write (local.get $handle) (i32.const 0) (i32.const 8) (i32.const 16)) (return)))
      (if (i32.eq (local.get $what) (i32.const 115)) (then ;; s
        (call $block (call $subscribe-input (local.get $handle))) (return)))
      (if (i32.eq (local.get $what) (i32.const 116)) (then ;; t
        (call $block (call $subscribe-output (local.get $handle))) (return)))
      (if (i32.eq (local.get $what) (i32.const 113)) (then ;; q
        (call $block (local.get $handle)) (return)))
      (if (i32.eq (local.get $what) (i32.const 70)) (then ;; F
        (call $drop-fields (local.get $handle)) (return)))
      (if (i32.eq (local.get $what) (i32.const 80)) (then ;; P
        (call $drop-request (local.get $handle)) (return)))
      (if (i32.eq (local.get $what) (i32.const 66)) (then ;; B
        (call $drop-body (local.get $handle)) (return)))
      (if (i32.eq (local.get $what) (i32.const 73)) (then ;; I
        (call $drop-input (local.get $handle)) (return)))
      (if (i32.eq (local.get $what) (i32.const 79)) (then ;; O
        (call $drop-output (local.get $handle)) (return)))
      (if (i32.eq (local.get $what) (i32.const 81)) (then ;; Q
        (call $drop-pollable (local.get $handle)) (return)))
      unreachable)

    (func $say-mine
      (i32.store (call $realloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4)) (i32.const 0x656e696d)))

    ;; Everything that was told goes out before this calls for more.
    (func $answer (param $out i32) (local $response i32) (local $body i32) (local $stream i32) (local $bytes i32)
      (local.set $bytes (call $bytes))
      (if (i32.gt_u (local.get $bytes) (i32.const 4096)) (then (local.set $bytes (i32.const 4096))))
      (local.set $response (call $new-response (call $new-fields)))
      (call $response-body (local.get $response) (i32.const 16))
      (local.set $body (i32.load (i32.const 20)))
      (call $set (local.get $out) (i32.const 0) (local.get $response) (i32.const 0) (i64.const 0)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
      (call $body-write (local.get $body) (i32.const 16))
      (local.set $stream (i32.load (i32.const 20)))
      (call $write (local.get $stream) (i32.const 1024) (local.get $bytes) (i32.const 16))
      (call $drop-output (local.get $stream))
      (call $finish (local.get $body) (i32.const 0) (i32.const 0) (i32.const 16)))

    (func (export "handle") (param $request i32) (param $out i32) (local $path i32) (local $what i32) (local $number i32)
      (call $path (local.get $request) (i32.const 16))
      (local.set $path (i32.load (i32.const 20)))
      (local.set $what (i32.load8_u offset=1 (local.get $path)))
      (local.set $number (i32.add
        (i32.mul (i32.const 10) (i32.sub (i32.load8_u offset=2 (local.get $path)) (i32.const 48)))
        (i32.sub (i32.load8_u offset=3 (local.get $path)) (i32.const 48))))
      (call $forget)
      (if (i32.eq (local.get $what) (i32.const 107)) (then (call $keep (local.get $request)))
        (else (if (i32.eq (local.get $what) (i32.const 119)) (then (call $keep-unfinished))
        (else (if (i32.eq (local.get $what) (i32.const 109)) (then (call $keep-many))
        (else (if (i32.or (i32.eq (local.get $number) (local.get $request)) (i32.eq (local.get $number) (local.get $out)))
          (then (call $say-mine))
          (else (call $use (local.get $what) (local.get $number))))))))))
      (call $answer (local.get $out))))

  (core instance $main (instantiate $main-module
    (with "told" (instance $told))
    (with "host" (instance
      (export "path" (func $path)) (export "headers" (func $headers)) (export "consume" (func $consume))
      (export "stream" (func $stream)) (export "new-fields" (func $new-fields)) (export "entries" (func $entries))
      (export "new-response" (func $new-response)) (export "response-body" (func $response-body))
      (export "body-write" (func $body-write)) (export "finish" (func $finish)) (export "set" (func $set))
      (export "read" (func $read)) (export "write" (func $write))
      (export "subscribe-input" (func $subscribe-input)) (export "subscribe-output" (func $subscribe-output))
      (export "block" (func $block)) (export "get-stdout" (func $get-stdout))
      (export "drop-fields" (func $drop-fields))
      (export "drop-request" (func $drop-request)) (export "drop-body" (func $drop-body))
      (export "drop-input" (func $drop-input)) (export "drop-output" (func $drop-output))
      (export "drop-pollable" (func $drop-pollable))))))

  (func $handle (param "request" (own $request)) (param "response-out" (own $out))
    (canon lift (core func $main "handle")))
  (component $handler
    (import "request-type" (type $request (sub resource)))
    (import "out-type" (type $out (sub resource)))
    (import "handle" (func $handle (param "request" (own $request)) (param "response-out" (own $out))))
    (export "handle" (func $handle)))
  (instance $exported (instantiate $handler
    (with "request-type" (type $request)) (with "out-type" (type $out)) (with "handle" (func $handle))))
  (export "wasi:http/incoming-handler@0.2.4" (instance $exported)))
