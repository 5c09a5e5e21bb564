// Keys in a token: SoftHSM's, which Debian packages as softhsm2.
#include "sign/token_key.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "base/error.h"
#include "made_certificates.h"  // tests/sign
#include "sign/model_signature.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModule = "/usr/lib/softhsm/libsofthsm2.so";

std::string refused(const std::string& uri) {
  try {
    read_token_uri(uri);
  } catch (const Error& error) { return error.what(); }
  return "no refusal";
}

TEST(TokenUri, IsReadWithItsEscapes) {
  const auto uri = read_token_uri(
      "pkcs11:token=My%20token;object=signer;type=private?module-path=/usr/lib/a%2Db.so&pin-value=12%2034");
  EXPECT_EQ(uri.object, "pkcs11:token=My%20token;object=signer;type=private");
  EXPECT_EQ(uri.module, "/usr/lib/a-b.so");
  EXPECT_EQ(uri.pin, "12 34");
  EXPECT_EQ(read_token_uri("pkcs11:id=%01").object, "pkcs11:id=%01;type=private");
  EXPECT_FALSE(read_token_uri("pkcs11:id=%01").pin.has_value());
  EXPECT_TRUE(is_token_uri("pkcs11:id=%01"));
  EXPECT_FALSE(is_token_uri("key.pem"));
}

TEST(TokenUri, ThePinIsTheFirstLineOfAFile) {
  const auto file = fs::temp_directory_path() / fmt::format("retort_pin_{}", getpid());
  std::ofstream(file) << "1234\nno pin\n";
  for (const auto* way : {"", "file:", "file://"})
    EXPECT_EQ(read_token_uri(fmt::format("pkcs11:object=a?pin-source={}{}", way, file.string())).pin, "1234");
  fs::remove(file);
  EXPECT_NE(refused("pkcs11:object=a?pin-source=" + file.string()), "no refusal");
}

TEST(TokenUri, ThatNamesNoPrivateKeyIsRefused) {
  const std::pair<const char*, const char*> cases[] = {
      {"pkcs11:", "names no key"},
      {"pkcs11:token=mine", "names no key"},
      {"pkcs11:object=a;type=cert", "something else than a private key"},
      {"pkcs11:object", "not name=value"},
      {"pkcs11:object=a%2", "two hexadecimal digits"},
      {"pkcs11:object=a%zz", "two hexadecimal digits"},
      {"pkcs11:object=a?module-name=softhsm2", "module-name is not known here"},
      {"pkcs11:object=a?pin-value=1&pin-value=2", "two PINs"},
      {"pkcs11:object=a?pin-source=|cat", "which is not started"},
      {"key.pem", "does not begin with"},
  };
  for (const auto& [uri, why] : cases) EXPECT_NE(refused(uri).find(why), std::string::npos) << refused(uri);
}

// One token with one key, for all tests of this process: SoftHSM reads its settings once.
class Token : public ::testing::Test {
 protected:
  static bool run(const std::string& command) {
    const int ended = std::system((command + " >/dev/null 2>&1").c_str());
    return WIFEXITED(ended) && WEXITSTATUS(ended) == 0;
  }
  static void SetUpTestSuite() {
    if (!run("command -v softhsm2-util")) return;
    fs::create_directories(folder() / "tokens");
    std::ofstream(folder() / "softhsm2.conf") << "directories.tokendir = " << (folder() / "tokens").string()
                                              << "\nobjectstore.backend = file\nlog.level = ERROR\n";
    ::setenv("SOFTHSM2_CONF", (folder() / "softhsm2.conf").c_str(), 1);
    std::ofstream(folder() / "key.pem") << in_token().private_pem();
    ready() =
        run("softhsm2-util --init-token --free --label 'retort test' --pin 1234 --so-pin 5678") &&
        run(fmt::format("softhsm2-util --import {} --token 'retort test' --label signer --id 01 --pin 1234",
                        (folder() / "key.pem").string()));
  }
  static void TearDownTestSuite() { fs::remove_all(folder()); }
  void SetUp() override {
    if (!run("command -v softhsm2-util")) GTEST_SKIP() << "softhsm2 is not installed";
    ASSERT_TRUE(ready()) << "softhsm2-util made no token";
    fs::create_directories(model);
    std::ofstream(model / "weights.safetensors") << "weights";
  }
  static const fs::path& folder() {
    static const auto path = fs::temp_directory_path() / fmt::format("retort_token_{}", getpid());
    return path;
  }
  static bool& ready() {
    static bool made = false;
    return made;
  }
  static std::time_t day(const char* text) { return moment_of(text); }
  static const MadeCertificate& in_token() {
    static const auto made =
        made_certificate({"token", "critical,CA:TRUE", "critical,digitalSignature,keyCertSign", "codeSigning",
                          day("2026-01-01"), day("2027-01-01")});
    return made;
  }
  static std::string uri(const std::string& object, const std::string& pin) {
    return fmt::format("pkcs11:token=retort%20test;object={}?module-path={}{}", object, kModule, pin);
  }
  fs::path model = folder() / "model", signature = folder() / "model/model.sig";
};

// First, since a token that was opened once stays open for the process.
TEST_F(Token, WhatItDoesNotGiveIsRefused) {
  EXPECT_THROW(token_key(uri("signer", "")), RecipeError);  // nobody is asked
  EXPECT_THROW(token_key(uri("signer", "&pin-value=4321")), RecipeError);
  EXPECT_THROW(token_key(uri("nobody", "&pin-value=1234")), RecipeError);
}

TEST_F(Token, ItsKeySignsWithoutLeavingIt) {
  const auto key = token_key(uri("signer", "&pin-value=1234"));
  std::ofstream(folder() / "public.pem") << in_token().signs_with().public_pem();
  const auto public_key = EcKey::public_key(folder() / "public.pem");
  EXPECT_EQ(key.hint(), public_key.hint());
  EXPECT_EQ(sign_model(model, signature, key), 1u);
  EXPECT_TRUE(verify_model(model, signature, public_key).differences.empty());
}

TEST_F(Token, ItsKeySignsWithACertificate) {
  const auto key = token_key(uri("signer", "&pin-value=1234"));
  std::ofstream(folder() / "certificate.pem") << in_token().pem();
  const auto now = day("2026-05-03");
  sign_model(model, signature, key, certificates_to_sign_with(key, {folder() / "certificate.pem"}, now));
  EXPECT_EQ(verify_model(model, signature, Trust{folder() / "certificate.pem", now}).signer, "CN=token");
}

}  // namespace
}  // namespace retort
