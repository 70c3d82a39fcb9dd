"""The presets of `train`: defaults of its options, by name. Imports nothing heavy."""

from typing import Any

_SMALL = {
    "residual": True,
    "backbone_channels": (16, 48, 64, 64, 64, 64, 64),
    "neck_channels": (64, 64),
    "num_stages": 2,
    "stage_channels": 48,
    "stage1_hidden_channels": 96,
    "kernel_size": 3,
    "batch_size": 8,
    "lr": 8e-3,
    "lr_schedule": "cosine",
    "lr_warmup_steps": 50,
    "backbone_lr_factor": 1.0,
    "neck_lr_factor": 1.0,
    "freeze_backbone_steps": 0,
    "ckpt_interval": 500,
    "log_interval": 20,
}

PRESETS: dict[str, dict[str, Any]] = {
    "openpose": {},
    # The MindSpore model zoo's recipe for 8 devices. It clips the gradient of each weight to 10 after multiplying the loss by
    # 8192, and never divides by 8192, which Momentum turns into a learning rate of 8192 times 8 x 1e-4.
    "openpose-8p": {
        "optimizer": "momentum",
        "max_epoch": 80,
        "lr": 8192 * 8e-4,
        "lr_steps": (31_250, 37_500),
        "backbone_lr_factor": 1.0,
        "neck_lr_factor": 1.0,
        "freeze_backbone_steps": 0,
        "clip_tensor_norm": 10 / 8192,
        "loss_scale": 8192.0,
    },
    # Channels of the published BODY_25 model, see trainer/networks/openpose2019.py.
    "openpose-2019": {
        "architecture": "openpose-2019",
        "num_stages": 6,
        "num_paf_stages": 4,
        "stage_channels": 128,
        "stage1_channels": 96,
        "stage1_hidden_channels": 256,
        "hidden_channels": 512,
    },
    # Schedule of the author's train.py, which starts from ImageNet weights of MobileNet; raise lr for random weights.
    "lightweight": {
        "architecture": "lightweight",
        "backbone_channels": (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512),
        "neck_channels": (128,),
        "num_stages": 2,
        "stage_channels": 128,
        "stage1_hidden_channels": 512,
        "batch_size": 80,
        "lr": 1.6e-4,
        "lr_gamma": 0.333,
        "lr_steps": (80_000, 160_000, 208_000),
        "max_epoch": 280,
        "freeze_backbone_steps": 0,
    },
    "small": _SMALL,
    # For photographs of people in unusual poses, such as LSP-Extended; tests/studies/lsp_study.py measures it.
    "small-photos": {
        **_SMALL,
        "backbone_channels": (16, 32, 64, 64, 64),
        "context_channels": (128, 192),
        "neck_channels": (64,),
        "num_stages": 1,
        "optimizer": "adamw",
        "weight_decay": 0.05,
        "lr": 4e-3,
        "lr_warmup_steps": 200,
        "ema_decay": 0.998,
        "positive_weight": 5.0,
        "mirror": True,
        "color_jitter": 0.3,
    },
}
