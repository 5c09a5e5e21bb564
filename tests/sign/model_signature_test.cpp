// Against the cases that github.com/sigstore/model-transparency publishes (scripts/tests, Apache-2.0, commit
// e343073): models that its releases 1.0.0, 1.0.1 and 1.1.0 signed with the key in tests/golden/sign.
#include "sign/model_signature.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <tuple>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(source_dir()) / "tests/golden/sign";

class ModelSignature : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(model / "deep");
    write("config.json", "{}");
    write("deep/weights.safetensors", "weights");
  }
  void TearDown() override { fs::remove_all(folder); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(model / name, std::ios::binary | std::ios::trunc) << text;
  }
  std::vector<std::string> differences(const fs::path& signature) const {
    std::vector<std::string> found;
    for (const auto& [file, what] : verify_model(model, signature, public_key).differences)
      found.push_back(file + " " + what.substr(0, what.find(':')));
    return found;
  }
  std::string refusal(const fs::path& signature, const EcKey& key) const {
    try {
      verify_model(model, signature, key);
    } catch (const FormatError& error) { return error.what(); }
    return "no refusal";
  }
  using Names = std::vector<std::string>;
  fs::path folder = fs::temp_directory_path() / fmt::format("retort_sign_{}", getpid());
  fs::path model = folder / "model";
  EcKey private_key = EcKey::private_key(kGolden / "private.pem");
  EcKey public_key = EcKey::public_key(kGolden / "public.pem");
};

TEST_F(ModelSignature, WhatTheReferenceSignedVerifies) {
  for (const auto& [version, model_name, files] :
       {std::tuple{"v1.0.0", "signme-1", 1u}, std::tuple{"v1.0.1", "", 2u}, std::tuple{"v1.1.0", "", 2u}}) {
    const auto at = kGolden / fmt::format("{}-elliptic-key", version);
    const auto verified = verify_model(*model_name ? at / model_name : at, at / "model.sig", public_key);
    EXPECT_EQ(verified.files, files) << version;
    EXPECT_TRUE(verified.differences.empty()) << version << ": " << verified.differences[0].file;
  }
}

TEST_F(ModelSignature, NamesFilesThatWereChangedTakenOutOrPutIn) {
  const auto signature = usual_signature(model);
  EXPECT_EQ(sign_model(model, signature, private_key), 2u);
  EXPECT_EQ(differences(signature), Names{});
  write(".gitattributes", "what belongs to git is left out");
  EXPECT_EQ(differences(signature), Names{});
  write("config.json", "{ }");
  fs::remove(model / "deep/weights.safetensors");
  write("more.txt", "");
  EXPECT_EQ(differences(signature),
            (Names{"config.json modified", "deep/weights.safetensors missing", "more.txt added"}));
}

TEST_F(ModelSignature, OfOneFileLiesBesideIt) {
  write("model.gguf", "GGUF");
  const auto file = model / "model.gguf", signature = usual_signature(file);
  EXPECT_EQ(signature, model / "model.gguf.sig");
  EXPECT_EQ(sign_model(file, signature, private_key), 1u);
  EXPECT_TRUE(verify_model(file, signature, public_key).differences.empty());
  write("model.gguf", "GGUf");
  EXPECT_EQ(verify_model(file, signature, public_key).differences.at(0).file, ".");
}

TEST_F(ModelSignature, AnotherKeyAndAnotherStatementAreRefused) {
  const auto signature = usual_signature(model);
  sign_model(model, signature, private_key);
  const auto text = read_text(signature);
  auto bundle = Json::parse(text);
  auto& hint = bundle["verificationMaterial"]["publicKey"]["hint"];
  EXPECT_EQ(hint, public_key.hint());
  hint = std::string(64, 'a');
  write("model.sig", bundle.dump());
  EXPECT_NE(refusal(signature, public_key).find("it was signed with another key"), std::string::npos);

  // One bit of the statement: whoever changes the list of files has to sign it.
  bundle = Json::parse(text);
  auto payload = bundle["dsseEnvelope"]["payload"].get<std::string>();
  payload[20] = payload[20] == 'A' ? 'B' : 'A';
  bundle["dsseEnvelope"]["payload"] = payload;
  write("model.sig", bundle.dump());
  EXPECT_NE(refusal(signature, public_key).find("the signature is not one of this key"), std::string::npos);
}

TEST_F(ModelSignature, HostileBundlesAreRefusedWithTheirPlace) {
  const auto signature = usual_signature(model);
  sign_model(model, signature, private_key);
  const auto whole = Json::parse(read_text(signature));
  const auto with = [&](const char* pointer, const Json& value) {
    auto bundle = whole;
    bundle[Json::json_pointer(pointer)] = value;
    write("model.sig", bundle.dump());
    return refusal(signature, public_key);
  };
  EXPECT_NE(with("/mediaType", "x").find("mediaType: expected application/vnd.dev.sigstore"),
            std::string::npos);
  EXPECT_NE(with("/verificationMaterial", {{"certificate", {{"rawBytes", ""}}}}).find("method without keys"),
            std::string::npos);
  EXPECT_NE(with("/dsseEnvelope/payload", "%%%%").find("is no base64"), std::string::npos);
  EXPECT_NE(with("/dsseEnvelope/payload", "abc").find("is no base64"), std::string::npos);
  EXPECT_NE(with("/dsseEnvelope/payloadType", "x").find("payloadType"), std::string::npos);
  EXPECT_NE(with("/dsseEnvelope/signatures", Json::array()).find("expected 1, found 0"), std::string::npos);
  EXPECT_NE(with("/dsseEnvelope", 7).find("dsseEnvelope"), std::string::npos);
  write("model.sig", "[]");
  EXPECT_NE(refusal(signature, public_key).find("model.sig"), std::string::npos);
}

TEST_F(ModelSignature, LinksAndKeysOfAnotherKindAreRefused) {
  fs::create_symlink("/etc/passwd", model / "link");
  EXPECT_THROW(sign_model(model, usual_signature(model), private_key), FormatError);
  write("key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
  EXPECT_THROW(EcKey::private_key(model / "key.pem"), FormatError);
  EXPECT_THROW(EcKey::private_key(kGolden / "public.pem"), FormatError);
  EXPECT_THROW(EcKey::public_key(model / "absent.pem"), FormatError);
}

}  // namespace
}  // namespace retort
