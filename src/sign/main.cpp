// retort-sign: signatures over models and runs that other programs verify, and the other way round.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/core.h>
#include <sys/stat.h>

#include <cstdio>

#include "base/error.h"
#include "base/tell.h"
#include "sign/model_signature.h"

namespace retort {

namespace {

struct Options {
  std::string model, key, signature;
  std::filesystem::path file() const {
    return signature.empty() ? usual_signature(model) : std::filesystem::path(signature);
  }
};

Exit sign(const Options& options) {
  const auto key = EcKey::private_key(options.key);
  const auto files = sign_model(options.model, options.file(), key);
  fmt::print("{}: {} files signed; public key {}\n", options.file().string(), files, key.hint());
  return Exit::done;
}

Exit verify(const Options& options) {
  const auto verified = verify_model(options.model, options.file(), EcKey::public_key(options.key));
  for (const auto& difference : verified.differences)
    fmt::print("{}: {}\n", printable(difference.file), difference.what);
  std::fflush(stdout);
  if (!verified.differences.empty())
    throw FormatError(fmt::format("{}: {} files differ from the {} that were signed", printable(options.model),
                                  verified.differences.size(), verified.files));
  fmt::print("{}: {} files are as they were signed\n", printable(options.model), verified.files);
  return Exit::done;
}

void add_options(CLI::App& command, Options& options, const char* key) {
  command.add_option("model", options.model, "a folder (an export, a run) or a file (a .gguf)")->required();
  command.add_option("--key", options.key, key)->required();
  command.add_option("--signature", options.signature, "where it is; FOLDER/model.sig or FILE.sig otherwise");
}

int run(int argc, char** argv) {
  CLI::App app("Signs models and verifies their signatures: OpenSSF Model Signing v1.0, with keys, offline.",
               "retort-sign");
  app.set_version_flag("--version", "retort-sign " RETORT_VERSION, "print the version and exit");
  app.require_subcommand(1);
  Options options;
  auto* signing = app.add_subcommand("sign", "Sign every file of a model with a private key");
  add_options(*signing, options, "private key in PEM, on the curve P-256, P-384 or P-521");
  auto* verifying = app.add_subcommand("verify", "Compare a model with its signature");
  add_options(*verifying, options, "public key in PEM");
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
