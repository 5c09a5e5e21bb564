// Signatures with certificates that are made here; tools/peers/check_signatures.py compares them with the
// PyPI package model-signing, and takes the cases that its makers publish.
#include "sign/certificates.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "made_certificates.h"  // tests/sign
#include "sign/model_signature.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

class CertificateSignature : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(model);
    write("model/config.json", "{}");
    write("model/weights.safetensors", "weights");
    write("root.pem", root.pem());
    write("chain.pem", signer.pem() + issuer.pem());
  }
  void TearDown() override { fs::remove_all(folder); }
  fs::path write(const std::string& name, const std::string& text) const {
    std::ofstream(folder / name, std::ios::binary | std::ios::trunc) << text;
    return folder / name;
  }
  MadeCertificate signer_that(const char* usage, const char* extended) const {
    return made_certificate({"signer", "critical,CA:FALSE", usage, extended, from, to}, &issuer);
  }
  Certificates chain_of(const MadeCertificate& first) const { return {first.der(), issuer.der()}; }
  std::string refusal(std::time_t at, const fs::path& roots) const {
    try {
      verify_model(model, signature, Trust{roots, at});
    } catch (const FormatError& error) { return error.what(); }
    return "no refusal";
  }
  std::string refusal() const { return refusal(now, folder / "root.pem"); }
  std::string refused_to_sign(const EcKey& key, const std::string& pem, std::time_t at) const {
    try {
      certificates_to_sign_with(key, {write("refused.pem", pem)}, at);
    } catch (const FormatError& error) { return error.what(); }
    return "no refusal";
  }
  static bool says(const std::string& text, const char* words) {
    return text.find(words) != std::string::npos;
  }

  fs::path folder = fs::temp_directory_path() / fmt::format("retort_certificates_{}", getpid());
  fs::path model = folder / "model", signature = folder / "model/model.sig";
  std::time_t from = moment_of("2026-01-01"), now = moment_of("2026-05-03"), to = moment_of("2027-01-01");
  MadeCertificate root = made_certificate(authority("root", from, to));
  MadeCertificate issuer = made_certificate(authority("issuer", from, to), &root);
  MadeCertificate signer = made_certificate(
      {"signer", "critical,CA:FALSE", "critical,digitalSignature", "codeSigning", from, to}, &issuer);
};

TEST_F(CertificateSignature, VerifiesAgainstTheRootAlone) {
  const auto key = signer.signs_with();
  EXPECT_EQ(sign_model(model, signature, key, certificates_to_sign_with(key, {folder / "chain.pem"}, now)),
            2u);
  const auto bundle = Json::parse(read_text(signature));
  const auto& material = bundle["verificationMaterial"];
  EXPECT_FALSE(material.contains("publicKey"));
  EXPECT_EQ(material["x509CertificateChain"]["certificates"].size(), 2u);
  EXPECT_TRUE(material["tlogEntries"].is_array());

  const auto verified = verify_model(model, signature, Trust{folder / "root.pem", now});
  EXPECT_EQ(verified.files, 2u);
  EXPECT_EQ(verified.signer, "CN=signer");
  EXPECT_TRUE(verified.differences.empty());
  write("model/config.json", "{ }");
  const auto changed = verify_model(model, signature, Trust{folder / "root.pem", now});
  ASSERT_EQ(changed.differences.size(), 1u);
  EXPECT_EQ(changed.differences[0].file, "config.json");
}

TEST_F(CertificateSignature, LeavesTheRootToWhoVerifies) {
  const auto key = signer.signs_with();
  const auto files = {folder / "chain.pem", folder / "root.pem"};
  EXPECT_EQ(certificates_to_sign_with(key, files, now), (Certificates{signer.der(), issuer.der()}));
}

TEST_F(CertificateSignature, OneThatIssuedItselfIsItsOwnRoot) {
  const auto alone = made_certificate(
      {"alone", "critical,CA:TRUE", "critical,digitalSignature,keyCertSign", "codeSigning", from, to});
  const auto file = write("alone.pem", alone.pem());
  const auto key = alone.signs_with();
  sign_model(model, signature, key, certificates_to_sign_with(key, {file}, now));
  EXPECT_EQ(verify_model(model, signature, Trust{file, now}).signer, "CN=alone");
  EXPECT_TRUE(says(refusal(), "which is not in"));
}

TEST_F(CertificateSignature, AnotherRootIsRefused) {
  sign_model(model, signature, signer.signs_with(), chain_of(signer));
  const auto stranger = write("stranger.pem", made_certificate(authority("stranger", from, to)).pem());
  EXPECT_TRUE(says(refusal(now, stranger), "no certificate of CN=root, which issued CN=issuer, is in"));
  // The same name on another key.
  const auto namesake = write("namesake.pem", made_certificate(authority("root", from, to)).pem());
  EXPECT_TRUE(says(refusal(now, namesake), "is not trusted: "));
  // The signer's issuer is missing.
  sign_model(model, signature, signer.signs_with(), {signer.der()});
  EXPECT_TRUE(says(refusal(), "no certificate of CN=issuer, which issued CN=signer, is in"));
}

TEST_F(CertificateSignature, IsValidFromAndTo) {
  sign_model(model, signature, signer.signs_with(), chain_of(signer));
  const auto late = refusal(moment_of("2027-01-02"), folder / "root.pem");
  EXPECT_TRUE(says(late, "is valid from 2026-01-01 12:00:00 UTC to 2027-01-01 12:00:00 UTC")) << late;
  EXPECT_TRUE(says(late, "--at DAY")) << late;
  EXPECT_TRUE(says(refusal(moment_of("2025-12-31"), folder / "root.pem"), "is valid from 2026-01-01"));
  EXPECT_EQ(refusal(moment_of("2026-12-31"), folder / "root.pem"), "no refusal");
}

TEST_F(CertificateSignature, HasToBeThereToSignCode) {
  const struct {
    const char *usage, *extended, *refused;
  } cases[] = {
      {"critical,digitalSignature", "", "no refusal"},
      {"", "codeSigning", "no refusal"},
      {"critical,digitalSignature", "codeSigning,serverAuth", "no refusal"},
      {"", "", "does not say that it is there to sign"},
      {"critical,keyEncipherment", "codeSigning", "its keyUsage lacks digitalSignature"},
      {"critical,digitalSignature", "serverAuth", "its extendedKeyUsage lacks codeSigning"},
  };
  for (const auto& [usage, extended, refused] : cases) {
    const auto one = signer_that(usage, extended);
    sign_model(model, signature, one.signs_with(), chain_of(one));
    EXPECT_TRUE(says(refusal(), refused)) << usage << "; " << extended << ": " << refusal();
    EXPECT_TRUE(says(refused_to_sign(one.signs_with(), one.pem(), now), refused))
        << usage << "; " << extended;
  }
}

TEST_F(CertificateSignature, AnIssuerHasToBeAnAuthority) {
  const auto below = made_certificate(
      {"below", "critical,CA:FALSE", "critical,digitalSignature", "codeSigning", from, to}, &signer);
  sign_model(model, signature, below.signs_with(), {below.der(), signer.der(), issuer.der()});
  EXPECT_TRUE(says(refusal(), "CN=signer: invalid CA certificate")) << refusal();
}

TEST_F(CertificateSignature, TheKeyHasToBeTheCertificates) {
  const auto other = signer_that("critical,digitalSignature", "codeSigning");
  sign_model(model, signature, other.signs_with(), chain_of(signer));
  EXPECT_TRUE(says(refusal(), "the signature is not one of this key over this statement"));
  EXPECT_TRUE(
      says(refused_to_sign(other.signs_with(), signer.pem(), now), "is the certificate of another key"));
}

TEST_F(CertificateSignature, AnAuthorityForOtherUsesMakesNoSignersOfCode) {
  auto wish = authority("servers", from, to);
  for (const char* extended : {"serverAuth", "serverAuth,codeSigning", "anyExtendedKeyUsage"}) {
    wish.extended = extended;
    const auto servers = made_certificate(wish, &root);
    const auto one = made_certificate(
        {"signer", "critical,CA:FALSE", "critical,digitalSignature", "codeSigning", from, to}, &servers);
    sign_model(model, signature, one.signs_with(), {one.der(), servers.der()});
    const bool refused = std::string(extended) == "serverAuth";
    EXPECT_TRUE(
        says(refusal(), refused ? "CN=servers may not issue certificates to sign code" : "no refusal"))
        << extended << ": " << refusal();
  }
}

TEST_F(CertificateSignature, NothingIsSignedWithWhatNobodyWouldVerify) {
  const auto key = signer.signs_with();
  EXPECT_TRUE(says(refused_to_sign(key, signer.pem(), moment_of("2027-01-02")), "and so not now"));
  EXPECT_TRUE(
      says(refused_to_sign(key, issuer.pem() + signer.pem(), now), "is the certificate of another key"));
  EXPECT_TRUE(says(refused_to_sign(key, signer.pem() + root.pem(), now), "did not issue CN=signer"));
  EXPECT_TRUE(says(refused_to_sign(key, signer.private_pem(), now), "holds no certificate in PEM"));
  auto broken = issuer.pem();
  broken[broken.find('\n') + 5] = '!';
  EXPECT_TRUE(says(refused_to_sign(key, signer.pem() + broken, now), "certificate 2 in it cannot be read"));
}

TEST_F(CertificateSignature, KeysAndCertificatesAreNotTakenForEachOther) {
  const auto key = signer.signs_with();
  sign_model(model, signature, key);
  EXPECT_TRUE(says(refusal(), "verify it with --key"));
  sign_model(model, signature, key, chain_of(signer));
  try {
    verify_model(model, signature, key);
    FAIL() << "no refusal";
  } catch (const FormatError& error) { EXPECT_TRUE(says(error.what(), "verify it with --root")); }
}

TEST_F(CertificateSignature, HostileChainsAreRefusedWithTheirPlace) {
  sign_model(model, signature, signer.signs_with(), chain_of(signer));
  const auto whole = Json::parse(read_text(signature));
  const auto with = [&](const char* pointer, const Json& value) {
    auto bundle = whole;
    bundle[Json::json_pointer(pointer)] = value;
    write("model/model.sig", bundle.dump());
    return refusal();
  };
  const auto chain = std::string("/verificationMaterial/x509CertificateChain");
  const auto list = chain + "/certificates";
  EXPECT_TRUE(says(with(chain.c_str(), 7), "x509CertificateChain.certificates: is missing"));
  EXPECT_TRUE(says(with(list.c_str(), Json::array()), "expected 1 to 20 certificates, found 0"));
  EXPECT_TRUE(
      says(with(list.c_str(), Json(std::vector<int>(21))), "expected 1 to 20 certificates, found 21"));
  EXPECT_TRUE(says(with((list + "/0/rawBytes").c_str(), "%%%%"), "certificates[0].rawBytes: is no base64"));
  EXPECT_TRUE(says(with((list + "/0/rawBytes").c_str(), "MAA="), "certificate 1 cannot be read"));
  const auto der = whole[Json::json_pointer(list + "/1/rawBytes")].get<std::string>();
  EXPECT_TRUE(says(with((list + "/1/rawBytes").c_str(), der.substr(0, der.size() / 8 * 4)),
                   "certificate 2 cannot be read"));
}

TEST(MomentOf, TakesDaysAndTimes) {
  EXPECT_EQ(moment_of("1970-01-02"), 86400 + 12 * 3600);
  EXPECT_EQ(moment_of("2026-05-03T10:00:01Z") - moment_of("2026-05-03"), 1 - 2 * 3600);
  for (const auto* wrong : {"", "2026", "2026-02-31", "2026-05-03 10:00", "2026-05-03T25:00:00Z", "2026-5-3"})
    EXPECT_THROW(moment_of(wrong), RecipeError) << wrong;
}

}  // namespace
}  // namespace retort
