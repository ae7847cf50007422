"""The model types of transformers, which no generated model may have for its own."""

_NAMES = """
    afmoe aimv2 aimv2textmodel aimv2visionmodel albert align aligntextmodel alignvisionmodel altclip altcliptextmodel
    altclipvisionmodel apertus arcee aria ariatext audioflamingo3 audioflamingo3encoder audiospectrogramtransformer
    autoformer axk1 axk2 ayavision bailinghybrid bamba bark bart beam beit bert bertgeneration bigbird bigbirdpegasus
    biogpt bit bitnet blenderbot blenderbotsmall blip blip2 blip2qformer blip2visionmodel bliptextmodel
    blipvisionmodel bloom blt bltglobaltransformer bltlocaldecoder bltlocalencoder bltpatcher bridgetower
    bridgetowertextmodel bridgetowervisionmodel bros camembert canary canarydecoder canine chameleon chameleonvqgan
    chineseclip chinesecliptextmodel chineseclipvisionmodel chmv2 clap clapaudiomodel claptextmodel clip clipseg
    clipsegtextmodel clipsegvisionmodel cliptextmodel clipvisionmodel clvp clvpdecoder clvpencoder codegen cohere
    cohere2 cohere2moe cohere2vision cohereasr coherecompass coherecompasstext coherecompassvision colmodernvbert
    colpali colqwen2 conditionaldetr convbert convnext convnextv2 cosmos3edge cosmos3edgetext cosmos3edgevision
    cosmos3omni cpmant csm csmdepthdecodermodel ctrl cvt cwm dabdetr dac data2vecaudio data2vectext data2vecvision
    dbrx deberta debertav2 decisiontransformer deepseekocr2 deepseekocr2encoder deepseekocr2samvisionmodel
    deepseekocr2text deepseekocr2vision deepseekv2 deepseekv3 deepseekv32 deepseekv4 deepseekvl deepseekvlhybrid
    deformabledetr deimv2 deit depthanything depthpro detr dfine dia diadecoder diaencoder diffllama diffusiongemma
    diffusiongemmatext dinat dinov2 dinov2withregisters dinov3convnext dinov3vit distilbert doge donutswin dots1
    dots3note dots3noteaudioencoder dots3notetext dots3notevisionencoder dpr dpt edgetam edgetammaskdecoder
    edgetampromptencoder edgetamvideo edgetamvideomaskdecoder edgetamvideopromptencoder edgetamvisionmodel
    efficientloftr efficientnet electra embeddinggemma2 embeddinggemma2text emu3 emu3textmodel emu3vqgan encodec
    encoderdecoder eomt eomtdinov3 ernie ernie45 ernie45moe ernie45vlmoe ernie45vlmoetext ernie45vlmoevision esm esmc
    esmfold2 eurobert evolla evollamodel exaone4 exaone45 exaone45vision exaonemoe falcon falconh1 falconmamba
    fastspeech2conformer fastspeech2conformerhifigan fastspeech2conformerwithhifigan fastvlm flaubert flava
    flavaimagecodebook flavaimagemodel flavamultimodalmodel flavatextmodel flexolmo flint florence2 florencevision
    fnet focalnet fsmt funasrnano funasrnanoencoder funnel fuyu gemma gemma2 gemma3 gemma3n gemma3naudio gemma3ntext
    gemma3nvision gemma3text gemma4 gemma4assistant gemma4audio gemma4text gemma4unified gemma4unifiedassistant
    gemma4unifiedaudio gemma4unifiedtext gemma4unifiedvision gemma4vision git gitvisionmodel glm glm4 glm46v glm4moe
    glm4moelite glm4v glm4vmoe glm4vmoetext glm4vmoevision glm4vtext glm4vvision glm5next glm5nexttext glm5nextvision
    glmasr glmasrencoder glmga glmimage glmimagetext glmimagevision glmimagevqmodel glmmoedsa glmocr glmocrtext
    glmocrvision glpn gotocr2 gotocr2vision gpt2 gptbigcode gptj gptneo gptneox gptneoxjapanese gptoss gptsw3
    gradiumphonontts granite granite4vision granite4visiontext granitedocling granitedoclingtext granitedoclingvision
    granitemoe granitemoehybrid granitemoeshared granitemoeswa granitespeech granitespeech5ctc granitespeech5encoder
    granitespeechencoder granitespeechplus granitespeechplusencoder graniteswa groundingdino groupvit
    groupvittextmodel groupvitvisionmodel gte helium hgnetv2 hiera higgsaudiov2 higgsaudiov2tokenizer hrmtext hubert
    hunyuanv1dense hunyuanv1moe hunyuanvl hunyuanvltext hunyuanvlvision hyperclovax hyperclovaxvisionv2 hyv3 hyv4
    ibert idefics idefics2 idefics2perceiver idefics2vision idefics3 idefics3vision ideficsperciever ideficsvision
    ijepa imagegpt informer inkling2 inkling2text inkling2vision inklingaudio inklingmmmodel inklingtext inklingvision
    instructblip instructblipqformer instructblipvideo instructblipvideoqformer instructblipvideovisionmodel
    instructblipvisionmodel internlm3 internvl internvlvision iquestcoder jais2 jamba janus janusvisionmodel
    janusvqgan jetmoe jev jinaembeddingsv3 kimik25 kimik25vision kimilinear kolibri1 kosmos2 kosmos25
    kosmos25textmodel kosmos25visionmodel kosmos2textmodel kosmos2visionmodel kyutaispeechtotext laguna lasrctc
    lasrencoder layoutlm layoutlmv2 layoutlmv3 layoutxlm led levit lfm2 lfm2moe lfm2vl lfm3 lfm3vl lfm3vlvision
    lightglue lightonocr lilt llama llama4 llama4text llama4visionmodel llava llavanext llavanextvideo llavaonevision
    longcatflash longformer longt5 luke lwdetr lwdetrvit lxmert m2m100 mamba mamba2 marian markuplm mask2former
    maskformer maskformerswin mbart megatronbert mellum metaclip2 metaclip2textmodel metaclip2visionmodel mgpstr mimi
    mimidecoder mimiencoder mimov2flash minicpm3 minicpmocr minicpmocrvision minicpmv46 minicpmv46vision minicpmv47
    minicpmv47vision minimax minimaxm2 minimaxm3vl minimaxm3vltext minimaxm3vlvision ministral ministral3 mistral
    mistral3 mistral4 mistrallarge4 mistrallarge4text mixtral mlcd mlcdvisionmodel mllama mllamatextmodel
    mllamavisionmodel mmgroundingdino mobilebert mobilenetv1 mobilenetv2 mobilevit mobilevitv2 modernbert
    modernbertdecoder modernvbert molmo2 molmo2adapter molmo2text molmo2vision moonshine moonshinestreaming
    moonshinestreamingencoder moshi moshidepth mosstranscribediarize mosstranscribediarizeaudio mpnet mpt mra mt5
    museglimmer museglimmerassistant museglimmertext museglimmervision musespark musesparkaudio musesparktext
    musesparkvision musicflamingo musicgen musicgendecoder musicgenmelody musicgenmelodydecoder mvp nanochat
    nemospeechlm nemotron nemotron35asr nemotron35transcribeasraudio nemotron35transcribeaudio
    nemotron35transcribewordtimestamp nemotron3diarization nemotron3diarizationaudio nemotronasrstreaming
    nemotronasrstreamingencoder nemotronh nemotronhomni neomme neucodec nllbmoe nomicbert nougat nystromformer olmo
    olmo2 olmo3 olmoe olmohybrid omdetturbo oneformer openaigpt openaiprivacyfilter opt ovis2 ovis2vision owlv2
    owlv2textmodel owlv2visionmodel owlvit owlvittextmodel owlvitvisionmodel paddleocrvl paddleocrvltext
    paddleocrvlvision paligemma parakeetctc parakeetencoder parakeetrnnt parakeettdt patchtsmixer patchtst peaudio
    peaudioencoder peaudiovideo peaudiovideoencoder pegasus pegasusx perceiver perceptionlm persimmon pevideo
    pevideoencoder phi phi3 phi4multimodal phi4multimodalaudio phi4multimodalvision phimoe pi0 pix2struct
    pix2structtextmodel pix2structvisionmodel pixio pixtral plbart pockettts pocketttsaudiotokenizer
    pocketttsaudiotokenizerdecoder pocketttsaudiotokenizerencoder poolformer pop2piano ppchart2table
    ppchart2tablevision ppdoclayoutv2 ppdoclayoutv3 ppdoclayoutv4 ppformulanet ppformulanettext ppformulanetvision
    pplcnet pplcnetv3 pplcnetv4 ppocrv5mobiledet ppocrv5mobilerec ppocrv5serverdet ppocrv5serverrec ppocrv6mediumdet
    ppocrv6smalldet ppocrv6smallrec ppocrv6tinyrec promptdepthanything prophetnet pvt pvtv2 qianfanocr
    qianfanocrvision qwen2 qwen25omni qwen25omniaudioencoder qwen25omnibigvgan qwen25omnidit qwen25omnitalker
    qwen25omnitext qwen25omnithinker qwen25omnitoken2wav qwen25omnivisionencoder qwen25vl qwen25vltext qwen25vlvision
    qwen2audio qwen2audioencoder qwen2moe qwen2vl qwen2vltext qwen2vlvision qwen3 qwen35 qwen35moe qwen35moetext
    qwen35moevision qwen35text qwen35vision qwen3asr qwen3asrencoder qwen3moe qwen3next qwen3omnimoe
    qwen3omnimoeaudioencoder qwen3omnimoetalkercodepredictor qwen3omnimoetalkertext qwen3omnimoetext
    qwen3omnimoethinker qwen3omnimoevisionencoder qwen3vl qwen3vlmoe qwen3vlmoetext qwen3vlmoevision qwen3vltext
    qwen3vlvision qwen4exp qwen4exptext qwen4expvision radio rag recurrentgemma reformer regnet rembert resnet rfdetr
    rfdetrdinov2 roberta robertaprelayernorm rocbert roformer rtdetr rtdetrresnet rtdetrv2 rwkv sam sam2
    sam2hieradetmodel sam2maskdecoder sam2promptencoder sam2video sam2videomaskdecoder sam2videopromptencoder
    sam2visionmodel sam3 sam3detrdecoder sam3detrencoder sam3geometryencoder sam3litetext sam3litetextdetrdecoder
    sam3litetextdetrencoder sam3litetextgeometryencoder sam3litetextmaskdecoder sam3litetexttextmodel sam3maskdecoder
    sam3tracker sam3trackermaskdecoder sam3trackerpromptencoder sam3trackervideo sam3trackervideomaskdecoder
    sam3trackervideopromptencoder sam3video sam3visionmodel sam3vitmodel samhq samhqmaskdecoder samhqpromptencoder
    samhqvisionmodel sammaskdecoder sampromptencoder samvisionmodel sapiens2 sapiens2head seamlessm4t seamlessm4tv2
    seedoss segformer seggpt sew sewd shieldgemma2 siglip siglip2 siglip2textmodel siglip2visionmodel sigliptextmodel
    siglipvisionmodel slanet slanext slanextvision smollm3 smolvlm smolvlmvision solaropen speechencoderdecoder
    speecht5 speecht5hifigan speechtotext splinter squeezebert stablelm starcoder2 step3p5 step3p5vision step3p7
    superglue superpoint swiftformer swin swin2sr swinv2 switchtransformers t5 t5gemma t5gemma2 t5gemma2decoder
    t5gemma2encoder t5gemma2text t5gemmamodule tabletransformer tapas textnet timeseriestransformer timesfm timesfm25
    timesformer timmbackbone timmwrapper tipsv2 tipsv2dpt tipsv2textmodel tipsv2visionmodel trocr tvp udop ultrabert
    ultravbert umt5 unispeech unispeechsat univnet unlimitedocr unlimitedocrsamvisionmodel unlimitedocrtext
    unlimitedocrvision unlimitedocrvisionencoder upernet uvdoc uvdocbackbone vaultgemma vibevoice
    vibevoiceacoustictokenizer vibevoiceacoustictokenizerdecoder vibevoiceacoustictokenizerencoder vibevoiceasr
    vibevoicediffusion videollama3 videollama3vision videollava videomae videomt videoprism videoprismtextmodel
    videoprismvisionmodel vilt vipllava visionencoderdecoder visiontextdualencoder visualbert vit vitdet vitmae
    vitmatte vitmsn vitpose vitposebackbone vits vivit vjepa2 voxtral voxtralencoder voxtralrealtime
    voxtralrealtimeencoder voxtralrealtimetext wav2vec2 wav2vec2bert wav2vec2conformer wavlm whisper xclip
    xcliptextmodel xclipvisionmodel xcodec xcodec2 xglm xlm xlmroberta xlmrobertaxl xlnet xlstm xmod yolos yoso youtu
    zamba zamba2 zaya zoedepth
"""

MODEL_TYPES = frozenset(_NAMES.split())
"""Without `_`, `-` and `.`: those of transformers 5.23."""
