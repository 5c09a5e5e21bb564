// retort-sign: signatures over models and runs that other programs verify, and the other way round.
#include <fmt/core.h>
#include <sys/stat.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <cstdio>
#include <ctime>

#include "base/error.h"
#include "base/tell.h"
#include "sign/model_signature.h"
#include "sign/token_key.h"

namespace retort {

namespace {

struct Options {
  std::string model, key, signature, root, at;
  std::vector<std::string> certificates;
  std::filesystem::path file() const {
    return signature.empty() ? usual_signature(model) : std::filesystem::path(signature);
  }
};

Exit sign(const Options& options) {
  const auto key = is_token_uri(options.key) ? token_key(options.key) : EcKey::private_key(options.key);
  Certificates certificates;
  if (!options.certificates.empty())
    certificates = certificates_to_sign_with(key, {options.certificates.begin(), options.certificates.end()},
                                             std::time(nullptr));
  const auto files = sign_model(options.model, options.file(), key, certificates);
  fmt::print("{}: {} files signed; public key {}\n", options.file().string(), files, key.hint());
  return Exit::done;
}

VerifiedModel compared(const Options& options) {
  if (options.key.empty() == options.root.empty())
    throw RecipeError(
        "verify takes either --key, the public half of a bare key, or --root, the root of whoever issued the "
        "signer's certificate");
  if (options.root.empty()) {
    if (!options.at.empty()) throw RecipeError("--at belongs to --root: a bare key is valid at any time");
    return verify_model(options.model, options.file(), EcKey::public_key(options.key));
  }
  const Trust trust{options.root, options.at.empty() ? std::time(nullptr) : moment_of(options.at)};
  return verify_model(options.model, options.file(), trust);
}

Exit verify(const Options& options) {
  const auto verified = compared(options);
  for (const auto& difference : verified.differences)
    fmt::print("{}: {}\n", printable(difference.file), difference.what);
  std::fflush(stdout);
  if (!verified.differences.empty())
    throw FormatError(fmt::format("{}: {} files differ from the {} that were signed",
                                  printable(options.model), verified.differences.size(), verified.files));
  fmt::print("{}: {} files are as they were signed{}\n", printable(options.model), verified.files,
             verified.signer.empty() ? "" : " by " + verified.signer);
  return Exit::done;
}

void add_options(CLI::App& command, Options& options) {
  command.add_option("model", options.model, "a folder (an export, a run) or a file (a .gguf)")->required();
  command.add_option("--signature", options.signature, "where it is; FOLDER/model.sig or FILE.sig otherwise");
}

int run(int argc, char** argv) {
  CLI::App app(
      "Signs models and verifies their signatures: OpenSSF Model Signing v1.0, with keys and certificates, "
      "offline.",
      "retort-sign");
  app.set_version_flag("--version", "retort-sign " RETORT_VERSION, "print the version and exit");
  app.require_subcommand(1);
  Options options;
  auto* signing = app.add_subcommand("sign", "Sign every file of a model with a private key");
  add_options(*signing, options);
  signing
      ->add_option("--key", options.key,
                   "private key on the curve P-256, P-384 or P-521: a file in PEM, or the pkcs11: URI of one "
                   "in a token")
      ->required();
  signing
      ->add_option(
          "--certificate", options.certificates,
          "file in PEM with the key's certificate and then those of its issuers, which the signature "
          "brings along; may be given again for the next ones")
      ->allow_extra_args(false);
  auto* verifying = app.add_subcommand("verify", "Compare a model with its signature");
  add_options(*verifying, options);
  verifying->add_option("--key", options.key, "public key in PEM, of a signature by a bare key");
  verifying->add_option("--root", options.root,
                        "trusted roots in PEM, of a signature with a certificate; nothing else is trusted");
  verifying->add_option("--at", options.at,
                        "day on which the certificates have to be valid (2026-05-03); now otherwise");
  try {
    app.parse(argc, argv);
    return static_cast<int>(signing->parsed() ? sign(options) : verify(options));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    tell(fmt::format("retort-sign: {}; `retort-sign --help` shows what it takes", error.what()));
    return static_cast<int>(Exit::bad_input);
  } catch (const Error& error) {
    tell(fmt::format("retort-sign: {}", error.what()));
    return static_cast<int>(error.code);
  } catch (const std::exception& error) {
    tell(fmt::format("retort-sign: {}", printable(error.what())));
    return static_cast<int>(Exit::machine_failed);
  }
}

}  // namespace

}  // namespace retort

int main(int argc, char** argv) {
  ::umask(::umask(0) | 077);
  retort::keep_outputs_apart();
  return retort::run(argc, argv);
}
